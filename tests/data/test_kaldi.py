import os

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from irl.core.errors import UserError
from irl.data.kaldi import Utterance, num_samples, read_data_dir, read_table, read_wave, write_data_dir, write_table
from irl.speech.fingerprint import data_fingerprint


@pytest.fixture
def folder(tmp_path):
    """Two recordings, three utterances cut from them."""
    for name, n in (("rec1", 16000), ("rec2", 8000)):
        soundfile.write(tmp_path / f"{name}.wav", np.linspace(-0.5, 0.5, n), 16000, subtype="PCM_16")
    d = tmp_path / "data"
    write_table(d / "wav.scp", {name: str(tmp_path / f"{name}.wav") for name in ("rec1", "rec2")})
    write_table(d / "segments", {"a-1": "rec1 0.0 0.25", "a-2": "rec1 0.25 1.0", "b-1": "rec2 0.0 0.5"})
    write_table(d / "utt2spk", {"a-1": "a", "a-2": "a", "b-1": "b"})
    write_table(d / "text", {"a-1": "one two", "a-2": "three", "b-1": "four"})
    return d


def test_segments_cut_recordings(folder):
    utterances = read_data_dir(folder)
    assert [u.id for u in utterances] == ["a-1", "a-2", "b-1"] and utterances[0].text == "one two"
    whole, _ = soundfile.read(folder.parent / "rec1.wav", dtype="float32")
    parts = [read_wave(u, 16000) for u in utterances]
    np.testing.assert_array_equal(np.concatenate(parts[:2]), whole)
    assert num_samples(folder, utterances, 16000).tolist() == [4000, 12000, 8000]


def test_archives_by_kaldiio(folder):
    kaldiio = pytest.importorskip("kaldiio")
    x = (1000 * np.sin(np.arange(800))).astype(np.int16)
    kaldiio.save_ark(f"{folder}/w.ark", {"rec1": (16000, x), "rec2": (16000, x[:500])}, scp=f"{folder}/wav.scp")
    write_table(folder / "segments", {"a-1": "rec1 0.0 0.01", "a-2": "rec1 0.01 0.05", "b-1": "rec2 0.0 0.03"})
    utterances = read_data_dir(folder)
    np.testing.assert_allclose(read_wave(utterances[0], 16000), x[:160] / 32768)
    (folder / "segments").unlink()
    write_table(folder / "utt2spk", {"rec1": "a", "rec2": "b"})
    write_table(folder / "text", {"rec1": "x", "rec2": "y"})
    assert num_samples(folder, read_data_dir(folder), 16000).tolist() == [800, 500]


def test_pipes_only_when_allowed(folder, tmp_path):
    pytest.importorskip("kaldiio")
    marker = tmp_path / "ran"
    write_table(
        folder / "wav.scp", {"rec1": f"touch {marker}; cat {tmp_path}/rec1.wav |", "rec2": f"{tmp_path}/rec2.wav"}
    )
    with pytest.raises(UserError, match="rec1 is a shell command; allow it with --allow-pipes"):
        read_data_dir(folder)
    assert not marker.exists()
    utterances = read_data_dir(folder, allow_pipes=True)
    assert len(read_wave(utterances[0], 16000)) == 4000 and marker.exists()


def test_archives_run_no_code(folder, tmp_path):
    """kaldiio would unpickle an archive entry that begins with PKL."""
    pytest.importorskip("kaldiio")
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "w.ark").write_bytes(b"PKL" + pickle.dumps(Evil()))
    write_table(folder / "wav.scp", {name: f"{folder}/w.ark:0" for name in ("rec1", "rec2")})
    with pytest.raises(UserError, match="not audio at that offset"):
        read_wave(read_data_dir(folder)[0], 16000)
    assert not (tmp_path / "ran").exists()


def test_tabs_and_odd_spaces(folder):
    (folder / "text").write_text("a-1\tone\u00a0two  three\u2028four\r\na-2 x\nb-1 y\n", encoding="utf-8")
    assert read_data_dir(folder)[0].text == "one two three four"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_word(folder, encoding):
    before = list(read_data_dir(folder))
    for name in ("wav.scp", "segments", "utt2spk", "text"):
        (folder / name).write_text((folder / name).read_text(), encoding=encoding)
    assert list(read_data_dir(folder)) == before
    # As two files that were joined.
    lines = (folder / "text").read_text(encoding=encoding).splitlines()
    (folder / "text").write_text("".join(f"\ufeff{line}\n" for line in lines), encoding="utf-8")
    assert list(read_data_dir(folder)) == before


def test_a_segment_beyond_its_recording(folder):
    write_table(folder / "segments", {"a-1": "rec1 0.0 0.25", "a-2": "rec1 0.25 1.05", "b-1": "rec2 0.0 9.0"})
    utterances = read_data_dir(folder)
    assert len(read_wave(utterances[1], 16000)) == 12000, "rounded times may reach a little beyond"
    with pytest.raises(UserError, match="utterance b-1 .*the recording ends 8.50 s before the segment does"):
        read_wave(utterances[2], 16000)


def edit(name, content):
    return lambda d: (d / name).write_text(content)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: (d / "text").unlink(), "text: no such file"),
        (edit("text", ""), "text: empty file"),
        (edit("text", "a-1 x\na-1 y\n"), "text:2: duplicate id a-1"),
        (edit("text", "b-1 x\na-1 y\n"), "text:2: id a-1 is out of order"),
        (edit("text", "a-1 x\n\na-2 y\n"), "text:2: empty line"),
        (edit("text", "a-1 x\na-2 y\n"), "text: lacks 1 of the ids of .*segments, the first is b-1"),
        (edit("text", "a-1 x\na-2 y\nb-1 z\nc-1 w\n"), "segments: lacks 1 of the ids of .*text, the first is c-1"),
        (edit("text", "a-1 x\na-2\nb-1 z\n"), "text: a-2 has no text"),
        (edit("utt2spk", "a-1 a\n"), "utt2spk: lacks 2"),
        (edit("wav.scp", "rec1\nrec2 x\n"), "rec1 has no path"),
        (edit("segments", "a-1 rec1 0\n"), "a-1: expected `<recording> <start> <end>`, found 'rec1 0'"),
        (edit("segments", "a-1 rec9 0 1\n"), "recording rec9 is not in wav.scp"),
        (edit("segments", "a-1 rec1 1 1\n"), "expected 0 <= start < end"),
        (edit("segments", "a-1 rec1 1 inf\n"), "expected 0 <= start < end"),
        (edit("segments", "a-1 rec1 1 1e300\n"), "expected 0 <= start < end"),
        (edit("text", "a-1\na-2\nb-1 z\n"), "text: a-1 has no text, nor have 1 others"),
        (edit("text", "a-1 x\na-2 \0\n"), "text:2: not text: it holds a NUL character"),
        (edit("utt2spk", "../a-1 a\n"), "has a slash"),
        (edit("utt2spk", "a-1\n"), "utt2spk: a-1: expected `<id> <speaker>`, found ''"),
        (edit("utt2spk", "a-1 a b\n"), "utt2spk: a-1: expected `<id> <speaker>`, found 'a b'"),
        (edit("utt2spk", "a-1 a/b\n"), "utt2spk: a-1: speaker 'a/b' cannot name a folder"),
        (edit("utt2spk", "a-1 ../../a\n"), "speaker '../../a' cannot name a folder"),
        (edit("utt2spk", "a-1 ..\n"), "speaker '..' cannot name a folder"),
        (lambda d: ((d / "text").unlink(), os.mkfifo(d / "text")), "text: a pipe or a device, expected a text file"),
        (lambda d: ((d / "text").unlink(), (d / "text").mkdir()), "text: a folder, expected a text file"),
        (lambda d: (d / "text").write_bytes(b"a-1 \xff\n"), "text:1: not UTF-8 text: invalid start byte at byte 4"),
    ],
)
def test_bad_directories_are_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        read_data_dir(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (np.zeros(0), 16000, "no samples"),
        (np.zeros(100), 8000, "sampling rate 8000 Hz, expected 16000"),
        (np.zeros((100, 2)), 16000, "2 channels, expected 1"),
        (np.array([0, np.nan]), 16000, "not finite"),
        (None, 0, "no such file"),
        ("text", 0, "cannot be read as audio"),
    ],
)
def test_bad_audio_names_the_utterance(tmp_path, samples, rate, message):
    path = tmp_path / "x.wav"
    if isinstance(samples, str):
        path.write_text("not audio")
    elif samples is not None:
        soundfile.write(path, samples, rate, subtype="FLOAT")
    write_table(tmp_path / "d" / "wav.scp", {"utt7": str(path)})
    write_table(tmp_path / "d" / "utt2spk", {"utt7": "a"})
    (utterance,) = read_data_dir(tmp_path / "d", need_text=False)
    with pytest.raises(UserError, match=f"utterance utt7 .*{message}"):
        read_wave(utterance, 16000)


KEYS = st.text("abcXYZ-_09é", min_size=1, max_size=6)


@given(st.dictionaries(KEYS, st.text("xyz é", max_size=8).map(lambda s: " ".join(s.split())), min_size=1))
def test_tables_survive_a_round_trip(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("t") / "table"
    write_table(path, table)
    assert read_table(path) == table
    assert list(read_table(path)) == sorted(table, key=str.encode)


def test_data_dir_round_trip(folder, tmp_path):
    utterances = [u for u in read_data_dir(folder) if u.id != "a-2"]
    whole = [type(u)(u.id, u.wav, u.speaker, u.text) for u in utterances]
    write_data_dir(tmp_path / "copy", whole)
    assert list(read_data_dir(tmp_path / "copy")) == whole


def test_an_id_that_occurs_twice_is_not_written(tmp_path):
    rows = [Utterance("u-1", "a.wav", "u", "a"), Utterance("u-1", "b.wav", "u", "b")]
    with pytest.raises(UserError, match="2 utterances have the id u-1, expected each id once"):
        write_data_dir(tmp_path, rows)
    assert not list(tmp_path.iterdir())


def test_lengths_of_chosen_utterances_ask_for_no_others(folder):
    (folder / "segments").unlink()
    (folder / "text").unlink()
    write_table(folder / "utt2spk", {"rec1": "a", "rec2": "b"})
    utterances = read_data_dir(folder, need_text=False)
    (folder.parent / "rec1.wav").unlink()
    assert num_samples(folder, utterances, 16000, [1]).tolist() == [8000]
    write_table(folder / "utt2num_samples", {"rec1": "16000", "rec2": "8000"})
    assert num_samples(folder, utterances, 16000, [1]).tolist() == [8000]


def test_a_long_command_is_no_name_of_a_file(folder):
    (folder / "segments").unlink()
    command = f"cat {folder.parent}/rec2.wav {'#' * 300} |"
    write_table(folder / "wav.scp", {"rec2": command})
    write_table(folder / "utt2spk", {"rec2": "b"})
    utterances = read_data_dir(folder, need_text=False, allow_pipes=True)
    (folder / "text").unlink()
    assert data_fingerprint(folder) and utterances[0].wav == command


def test_a_slice_of_a_directory_is_a_list(folder):
    utterances = read_data_dir(folder)
    assert [u.id for u in utterances[1:]] == ["a-2", "b-1"] and utterances[-1] == list(utterances)[2]
    with pytest.raises(IndexError):
        utterances[3]
