"""The preparation of licensed corpora, on small trees of their layout."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from irl.data.kaldi import read_data_dir, read_wave

soundfile = pytest.importorskip("soundfile")
ROOT = Path(__file__).parent.parent
LOCAL = ROOT / "egs" / "wsj" / "local"
# Disc and path of each utterance, by set, in the words of the index files.
TRAIN0 = ["11_1_1:wsj0/si_tr_s/01t/01to030a.wv1", "11_2_1:wsj0/si_tr_s/401/401o0301.wv1"]
TRAIN1 = ["13_16_1: wsj1/si_tr_s/46u/46uc0301.wv1", "13_1_1:wsj1/si_tr_s/47a/47ac0201.wv1"]
DEV = ["13_16_1:wsj1/si_dt_20/4k0/4k0c0301.wv1"]
EVAL = ["11_14_1:wsj0/si_et_20/440/440c0401"]


def load(name):
    spec = importlib.util.spec_from_file_location(name, LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tree(root, numbered):
    """Both corpora below root/wsj0 and root/wsj1: audio in NIST SPHERE, transcripts, indices."""
    rng = np.random.default_rng(0)

    def home(disc):
        corpus = "LDC93S6B" if disc.startswith("11") else "LDC94S13B"
        return root / corpus / disc if numbered else root / corpus

    for entry in (*TRAIN0, *TRAIN1, *DEV, *EVAL):
        disc, path = entry.split(":")
        first, *rest = disc.split("_")
        path = Path(path.strip()).with_suffix(".wv1")
        audio = home(f"{first}-{rest[0]}.{rest[1]}") / path
        audio.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio, 0.1 * rng.normal(size=8000), 16000, format="NIST", subtype="PCM_16")
        dots = audio.parents[3] / path.parts[0] / "transcrp" / f"{path.stem[:6]}.dot"
        dots.parent.mkdir(parents=True, exist_ok=True)
        dots.write_text(f"Mr\\. Smith [loud_breath] said ,COMMA ({path.stem})\n")
    for disc, path, lines in (
        ("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx", TRAIN0),
        ("11-13.1", "wsj0/doc/indices/test/nvp/si_et_20.ndx", EVAL),
        ("13-34.1", "wsj1/doc/indices/si_tr_s.ndx", TRAIN1),
        ("13-34.1", "wsj1/doc/indices/h1_p0.ndx", DEV),
    ):
        index = home(disc) / path
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes(";; a remark\r\n".encode() + "".join(line + "\r\n" for line in lines).encode())
    return root / "LDC93S6B", root / "LDC94S13B"


def make(script, *args, path=None):
    import os

    env = {**os.environ, "PYTHONPATH": str(ROOT), **({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})}
    command = [sys.executable, str(LOCAL / script), *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("numbered", [True, False], ids=["discs", "one tree"])
def test_wsj_is_prepared_from_its_index_files(tmp_path, numbered):
    wsj0, wsj1 = write_tree(tmp_path, numbered)
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
    wsj0, wsj1 = write_tree(tmp_path, True)
    done = make("make_wsj.py", wsj0, wsj1, tmp_path / "data")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "train_si284: 3 utterances, 37416 are published (-37413)" in done.stderr


@pytest.mark.parametrize("what", ["a disc", "audio", "index", "wrong corpus", "transcript", "no folder"])
def test_wsj_names_what_is_missing(tmp_path, what):
    wsj0, wsj1 = write_tree(tmp_path, True)
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
    wsj0, wsj1 = write_tree(tmp_path, True)
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
    """Two parts of LibriSpeech's layout, a chapter of two utterances for each of two speakers."""
    for part in ("train-clean-100", "test-clean"):
        for speaker in (103, 19):
            folder = tmp_path / "LibriSpeech" / part / str(speaker) / "7"
            folder.mkdir(parents=True)
            keys = [f"{speaker}-7-{i:04d}" for i in range(2)]
            (folder / f"{speaker}-7.trans.txt").write_text("".join(f"{key} THAT'S IT\n" for key in keys))
            for key in keys:
                soundfile.write(folder / f"{key}.flac", 0.1 * np.ones(4000), 16000)
    return tmp_path


def test_librispeech_is_prepared_part_by_part(librispeech):
    done = make("make_librispeech.py", librispeech, librispeech / "data", "--incomplete")
    assert done.returncode == 0, done.stderr
    for part in ("train-clean-100", "test-clean"):
        found = read_data_dir(librispeech / "data" / part)
        assert [u.id for u in found] == ["103-7-0000", "103-7-0001", "19-7-0000", "19-7-0001"]
        assert {u.speaker for u in found} == {"103", "19"} and found[0].text == "THAT'S IT"
        assert len(read_wave(found[0], 16000)) == 4000


def test_librispeech_names_what_is_wrong(librispeech):
    root, out = librispeech / "LibriSpeech", librispeech / "data"
    cases = [
        ([root, out], "train-clean-100: 4 utterances, 28539 are published (-28535)"),
        ([root, out, "train-clean-360"], "train-clean-360: no such folder; unpack train-clean-360.tar.gz"),
        ([root, out, "train-dirty"], "train-dirty: no part of LibriSpeech"),
        ([out, out], "holds no part of LibriSpeech"),
    ]
    (root / "test-clean/19/7/19-7-0001.flac").unlink()
    cases.append(([root, out, "test-clean", "--incomplete"], "names 19-7-0001, but"))
    for args, expected in cases:
        done = make("make_librispeech.py", *args)
        assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
