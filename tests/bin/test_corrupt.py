"""Noisy copies of data directories: ids, several copies, levels that do not clip, and how their errors are summed."""

import re

import numpy as np
import pytest
import soundfile

from irl.bin import corrupt
from irl.core.errors import UserError
from irl.data.kaldi import Utterance, read_data_dir, read_table, read_wave, write_data_dir
from irl.speech.scoring import by_source, score

RATE = 8000


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    utterances = []
    for key in ("a", "a-1", "b"):
        soundfile.write(tmp_path / f"{key}.wav", 0.5 * rng.uniform(-1, 1, RATE), RATE, subtype="PCM_16")
        utterances.append(Utterance(key, str(tmp_path / f"{key}.wav"), key[0], f"said by {key[0]}"))
    write_data_dir(tmp_path / "data", utterances)
    return tmp_path / "data"


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["irl corrupt", *map(str, words), "--rate", str(RATE)])
    corrupt.main()


def test_copies_hear_other_noise_and_count_as_one_utterance(data, tmp_path, monkeypatch):
    for name, copies in (("once", []), ("thrice", ["--copies", 3])):
        run(monkeypatch, data, tmp_path / name, "--condition", "volume", *copies)
    once, thrice = ({u.id: read_wave(u, RATE) for u in read_data_dir(tmp_path / n)} for n in ("once", "thrice"))
    assert list(once) == ["a", "a-1", "b"] and len(thrice) == 9
    # The first copy is what is heard once; the others differ from it.
    assert all(np.array_equal(once[key], thrice[f"{key}-1"]) for key in once)
    assert not np.array_equal(thrice["b-1"], thrice["b-2"]) and not np.array_equal(thrice["b-2"], thrice["b-3"])
    # Copies of "a" and of "a-1" lie between each other in sorted order, and are kept apart.
    hypotheses = read_table(tmp_path / "thrice" / "text")
    hypotheses["a-2"] = "said by"
    (tmp_path / "hyp").write_text("".join(f"{key} {text}\n" for key, text in hypotheses.items()))
    counts = by_source(tmp_path / "thrice", score(tmp_path / "thrice" / "text", tmp_path / "hyp"))
    assert {key: (edits.reference, edits.errors) for key, edits in counts.items()} == {
        "a": (27, 2),
        "a-1": (27, 0),
        "b": (27, 0),
    }


def test_levels_do_not_clip(data, tmp_path, monkeypatch):
    run(monkeypatch, data, tmp_path / "loud", "--condition", "gain+10")
    loud, plain = ({u.id: read_wave(u, RATE) for u in read_data_dir(d)} for d in (tmp_path / "loud", data))
    assert np.abs(loud["a"]).max() > 1
    np.testing.assert_allclose(loud["a"], 10**0.5 * plain["a"], atol=1e-4)


def test_real_noises_and_rooms_need_their_folders(data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        run(monkeypatch, data, tmp_path / "out", "--condition", "real_noise", "--noises", tmp_path / "nowhere")


def test_params_say_what_each_utterance_got(data, tmp_path, monkeypatch, capsys):
    for name, seconds in (("noises/rain.wav", 2), ("rooms/hall.wav", 1)):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, 0.3 * np.random.default_rng(1).normal(size=seconds * RATE), RATE)
    for condition, line in {
        "real_noise": r"a noise rain.wav from [01]\.\d\d s at \d+ dB",
        "real_rooms": "a hall.wav",
        "volume": r"a gain [012]\.\d+",
        "gain-20": "a -20 dB",
        "dbfs-40": "a -40 dBFS",
        "tel": "a (ULAW|ALAW|GSM610)",
    }.items():
        target, folders = tmp_path / condition, ["--noises", tmp_path / "noises", "--rooms", tmp_path / "rooms"]
        run(monkeypatch, data, target, "--condition", condition, *folders)
        assert re.fullmatch(line, (target / "params").read_text().splitlines()[0])
    assert "resampled" not in capsys.readouterr().out


def test_a_folder_of_audio_is_copied_as_a_tree(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    source, target = tmp_path / "mine", tmp_path / "noisy"
    for name, rate, channels in (("a/x y.flac", RATE, 1), ("b.c/z.wav", 2 * RATE, 2), ("w.ogg", RATE, 1)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(source / name, 0.1 * rng.normal(size=(rate, channels)), rate)
    (source / "notes.txt").write_text("not audio")
    run(monkeypatch, source, target, "--condition", "volume")
    assert "3 utterances, 1 of another rate resampled to 8000 Hz" in capsys.readouterr().out
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.wav"))
    assert names == ["a/x y.wav", "b.c/z.wav", "w.wav"]
    assert {soundfile.info(target / name).samplerate for name in names} == {RATE}
    assert [line.split(" gain ")[0] for line in (target / "params").read_text().splitlines()] == ["a/x y", "b.c/z", "w"]
    # The noise is that of the id, whatever else is in the folder; a second run replaces the first.
    first = soundfile.read(target / "w.wav")[0]
    (source / "a" / "x y.flac").unlink()
    run(monkeypatch, source, target, "--condition", "volume")
    assert np.array_equal(soundfile.read(target / "w.wav")[0], first)
    clean = soundfile.read(source / "w.ogg")[0]
    gain = first @ clean / (clean @ clean)
    np.testing.assert_allclose(first, gain * clean, atol=2e-4)
    assert 0.125 <= gain <= 2 and abs(gain - 1) > 0.01


def test_folders_that_would_be_damaged_are_refused(tmp_path, monkeypatch):
    source = tmp_path / "mine"
    source.mkdir()
    with pytest.raises(UserError, match="mine: no audio found"):
        run(monkeypatch, source, tmp_path / "out", "--condition", "volume")
    for name in ("a.wav", "a.flac"):
        soundfile.write(source / name, np.ones(9), RATE)
    with pytest.raises(UserError, match="a.wav: its copy would have the name of that of .*a.flac"):
        run(monkeypatch, source, tmp_path / "out", "--condition", "volume")
    for target in (source, source / "noisy"):
        with pytest.raises(UserError, match="would overwrite its original or lie in it"):
            run(monkeypatch, source, target, "--condition", "volume")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.wav").write_bytes(b"precious")
    with pytest.raises(UserError, match="other: a folder that irl corrupt did not make"):
        run(monkeypatch, source, tmp_path / "other", "--condition", "volume")
    assert (tmp_path / "other" / "a.wav").read_bytes() == b"precious"


def test_originals_are_never_overwritten(data, tmp_path, monkeypatch):
    def refused(target, message):
        with pytest.raises(UserError, match=message):
            run(monkeypatch, data, target, "--condition", "volume")

    before = {path: path.read_bytes() for path in [*data.iterdir(), *tmp_path.glob("*.wav")]}
    (tmp_path / "link").symlink_to(data)
    for target in (data, tmp_path / "x" / ".." / "data", tmp_path / "link"):
        refused(target, "the copy would overwrite its original")
    write_data_dir(tmp_path / "other", read_data_dir(data))
    refused(tmp_path / "other", "other: a folder that irl corrupt did not make")
    # Recordings that lie where the copy's would.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "wav").symlink_to(tmp_path)
    refused(tmp_path / "new", "a.wav: a recording of .*data, which the copy in .*new could overwrite")
    # A link in the place of a copy is replaced, not followed.
    (tmp_path / "good" / "wav").mkdir(parents=True)
    (tmp_path / "good" / "wav" / "a.wav").symlink_to(tmp_path / "a.wav")
    run(monkeypatch, data, tmp_path / "good", "--condition", "volume")
    run(monkeypatch, data, tmp_path / "good", "--condition", "volume")
    assert {path: path.read_bytes() for path in before} == before
    assert not list((tmp_path / "good").rglob("*.tmp"))
