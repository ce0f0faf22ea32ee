"""The preparation of licensed corpora, on small trees of their layout."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trees

from irl.core.errors import UserError
from irl.data.kaldi import read_data_dir, read_wave

soundfile = pytest.importorskip("soundfile")
ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "egs" / "wsj" / "local"


def load(name):
    spec = importlib.util.spec_from_file_location(name, LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(script, *args, path=None):
    import os

    env = {**os.environ, "PYTHONPATH": str(ROOT), **({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})}
    command = [sys.executable, str(LOCAL / script), *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("numbered", [True, False], ids=["discs", "one tree"])
def test_wsj_is_prepared_from_its_index_files(tmp_path, numbered):
    wsj0, wsj1 = trees.wsj(tmp_path, numbered)
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data", "--incomplete")
    assert done.returncode == 0, done.stderr
    sets = {name: read_data_dir(tmp_path / "data" / name) for name in ("train_si284", "test_dev93", "test_eval92")}
    # Speaker 401 is left out.
    assert [u.id for u in sets["train_si284"]] == ["01to030a", "46uc0301", "47ac0201"]
    assert [u.id for u in sets["test_dev93"]] == ["4k0c0301"] and [u.id for u in sets["test_eval92"]] == ["440c0401"]
    first = sets["train_si284"][0]
    assert first.speaker == "01t" and first.text == "MR. SMITH SAID ,COMMA"
    assert len(read_wave(first, 16000)) == 8000


def test_wsj_counts_are_those_published(tmp_path):
    wsj0, wsj1 = trees.wsj(tmp_path, True)
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "train_si284: 3 utterances, 37416 are published (-37413)" in done.stderr


@pytest.mark.parametrize("what", ["a disc", "audio", "index", "wrong corpus", "transcript", "no folder"])
def test_wsj_names_what_is_missing(tmp_path, what):
    wsj0, wsj1 = trees.wsj(tmp_path, True)
    if what == "a disc":
        (wsj1 / "13-16.1").rename(tmp_path / "elsewhere")
        expected = "disc 13-16.1 is missing, wsj1/si_tr_s/46u/46uc0301.wv1 should be on it"
    elif what == "audio":
        (wsj0 / "11-1.1/wsj0/si_tr_s/01t/01to030a.wv1").unlink()
        expected = "the index names wsj0/si_tr_s/01t/01to030a.wv1 of disc 11-1.1, which is not there"
    elif what == "index":
        (wsj0 / "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx").unlink()
        expected = "index wsj0/doc/indices/train/tr_s_wv1.ndx is missing; it is on disc 11-13.1"
    elif what == "wrong corpus":
        wsj0, wsj1 = wsj1, wsj0
        expected = "holds neither wsj0/ nor discs with it, such as 11-1.1/wsj0"
    elif what == "transcript":
        (wsj1 / "13-16.1/wsj1/transcrp/4k0c03.dot").unlink()
        expected = "4k0c0301: no transcript"
    else:
        wsj0 = tmp_path / "none"
        expected = "none: no such folder of wsj0"
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data", "--incomplete")
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "data").rglob("wav.scp"))


def test_shorten_compressed_audio_is_converted_once_or_says_what_to_install(tmp_path):
    if importlib.util.find_spec("av"):
        pytest.skip("PyAV is installed and would read the file itself")
    wsj0, wsj1 = trees.wsj(tmp_path, True)
    audio = wsj0 / "11-14.1/wsj0/si_et_20/440/440c0401.wv1"
    raw = audio.read_bytes()
    # The header that LDC's files have, over samples that are not really compressed.
    head = raw[:1024].replace(b"sample_coding -s3 pcm", b"sample_coding -s26 pcm,embedded-shorten-v2.00")[:1024]
    audio.write_bytes(head.ljust(1024) + raw[1024:])
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data", "--incomplete")
    assert done.returncode == 1 and "440c0401.wv1: is compressed by shorten; install PyAV" in done.stderr
    # A stand-in for sph2pipe: what follows the header.
    program = tmp_path / "bin" / "sph2pipe"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\ntail -c +1025 "$last"\n')
    program.chmod(0o755)
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data", "--incomplete", path=program.parent)
    assert done.returncode == 0, done.stderr
    (utterance,) = read_data_dir(tmp_path / "data" / "test_eval92")
    assert utterance.wav.endswith("flac/440c0401.flac")
    expected = np.frombuffer(raw[1024:], dtype="<i2") / 32768
    np.testing.assert_allclose(read_wave(utterance, 16000), expected, atol=1e-7)
    program.unlink()
    assert make("make_wsj.py", wsj0, wsj1, tmp_path / "data", "--incomplete").returncode == 0, "converted before"


@pytest.mark.parametrize(
    "line, text",
    [
        ("the [<door_slam] female [loud_breath] <and> ~", "THE FEMALE AND"),
        ('he said \\"DOUBLE-QUOTE no . --DASH %PERCENT', 'HE SAID "DOUBLE-QUOTE NO -DASH PERCENT'),
        ("*Townhouse* [phone_ring/] one .POINT two [/phone_ring]", "TOWNHOUSE ONE POINT TWO"),
        ("yes !EXCLAMATION-POINT :COLON", "YES !EXCLAMATION-POINT :COLON"),
        ("~ . [tongue_click]", ""),
    ],
)
def test_wsj_transcripts_are_normalised(line, text):
    assert load("make_wsj").normalise(line) == text


@pytest.fixture
def librispeech(tmp_path):
    return trees.librispeech(tmp_path, ("train-clean-100", "test-clean", "test-other"))


def test_librispeech_is_prepared_from_its_parts(librispeech):
    sets = ["train=train-clean-100", "both=test-clean+test-other", "test-clean"]
    # In other parts there are other speakers.
    for path in sorted((librispeech / "LibriSpeech/test-other").rglob("*-*")):
        path.rename(path.with_name(path.name.replace("103-", "8-").replace("19-", "9-")))
    for path in (librispeech / "LibriSpeech/test-other").rglob("*.trans.txt"):
        path.write_text(path.read_text().replace("103-", "8-").replace("19-", "9-"))
    done = make("make_librispeech.py", librispeech, librispeech / "data", *sets, "--incomplete")
    assert done.returncode == 0, done.stderr
    keys = ["103-7-0000", "103-7-0001", "19-7-0000", "19-7-0001"]
    for name, expected in (
        ("train", keys),
        ("test-clean", keys),
        ("both", [*keys, "8-7-0000", "8-7-0001", "9-7-0000", "9-7-0001"]),
    ):
        found = read_data_dir(librispeech / "data" / name)
        assert [u.id for u in found] == expected and found[0].text == "THAT'S IT"
        assert found[0].speaker == "103" and len(read_wave(found[0], 16000)) == 8000


def test_librispeech_counts_an_id_once(librispeech):
    script, root = load("make_librispeech"), librispeech / "LibriSpeech/test-clean"
    path = next(root.rglob("*.trans.txt"))
    first = path.read_text().splitlines()[0]
    path.write_text(path.read_text() + first + "\n")
    with pytest.raises(UserError, match=f"1 ids are there more than once, the first is {first.split()[0]}"):
        script.utterances_of(root)


def test_librispeech_names_what_is_wrong(librispeech):
    root, out = librispeech / "LibriSpeech", librispeech / "data"
    cases = [
        ([root, out, "train-clean-100"], "train-clean-100: 4 utterances, 28539 are published (-28535)"),
        (
            [root, out, "train=train-clean-100+train-clean-360"],
            "train-clean-360: no such folder; unpack train-clean-360",
        ),
        ([root, out, "train=train-dirty"], "train-dirty: no part of LibriSpeech"),
        ([out, out, "test-clean"], "test-clean: no such folder"),
    ]
    (root / "test-clean/19/7/19-7-0001.flac").unlink()
    cases.append(([root, out, "test-clean", "--incomplete"], "names 19-7-0001, but"))
    for args, expected in cases:
        done = make("make_librispeech.py", *args)
        assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_speechocean(tmp_path, monkeypatch, capsys):
    """Dev and test by speaker, audio of any suffix, sentences that are tested left out of training, counts checked."""
    corpus = tmp_path / "speechocean762"
    for name, speakers, text in (("train", range(3), "UNHEARD"), ("test", range(100, 130), "READ")):
        rows = {"wav.scp": [], "text": [], "utt2spk": []}
        for speaker in speakers:
            key = f"{speaker:05d}0001"
            path = corpus / "WAVE" / f"SPEAKER{speaker:04d}" / f"{key}.flac"
            path.parent.mkdir(parents=True)
            soundfile.write(path, np.ones(160), 16000)
            rows["wav.scp"].append(f"{key}\tWAVE/SPEAKER{speaker:04d}/{key}.WAV")
            rows["text"].append(f"{key}\t{text if speaker else 'READ'} THIS")
            rows["utt2spk"].append(f"{key}\t{speaker:04d}")
        (corpus / name).mkdir()
        for file, lines in rows.items():
            (corpus / name / file).write_text("\n".join(lines) + "\n")
    module = load("make_speechocean")
    monkeypatch.setattr(sys, "argv", ["make_speechocean", str(corpus), str(tmp_path / "data")])
    with pytest.raises(UserError, match="train: 3 utterances of 3 speakers, 2500 of 125 are published"):
        module.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--incomplete"])
    module.main()
    assert "2 utterances of 2 speakers, 1 left out" in capsys.readouterr().out
    train, dev, test = (read_data_dir(tmp_path / "data" / name) for name in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (2, 25, 5) and not {u.speaker for u in dev} & {u.speaker for u in test}
    assert all(u.wav.endswith(".flac") and u.text == "UNHEARD THIS" for u in train)
