import hashlib

import numpy as np
import pytest
import soundfile

from irl.core import fingerprint as core
from irl.core.errors import UserError
from irl.data.kaldi import Utterance, read_data_dir, write_data_dir
from irl.speech import fingerprint
from irl.speech.conditions import NoiseConfig
from irl.speech.fingerprint import bank_fingerprint, data_fingerprint, noise_fingerprint, of_test_set, record_copy


def data_dir(folder, seed=0, names=("a", "b")):
    rng, rows = np.random.default_rng(seed), []
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / "wav" / f"{name}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=800), 8000)
        rows.append(Utterance(name, str(path), "s", f"text of {name}"))
    write_data_dir(folder, rows)
    return folder


def test_ids_texts_and_audio_enter_as_in_committed_results(tmp_path):
    folder = data_dir(tmp_path / "x")
    hashed = hashlib.blake2b(digest_size=8)
    for u in read_data_dir(folder):
        hashed.update(f"{u.id} {u.text} None None\n".encode() + open(u.wav, "rb").read())
    assert data_fingerprint(folder) == hashed.hexdigest()
    before = data_fingerprint(folder)
    (folder / "text").write_text("a text of a\nb another\n")
    assert data_fingerprint(folder) != before
    data_dir(folder, seed=1)
    assert data_fingerprint(folder) != before


def test_a_recording_of_many_segments_is_read_once(tmp_path, monkeypatch):
    folder = data_dir(tmp_path / "x", names=("a",))
    keys = [f"u{i:03d}" for i in range(50)]
    (folder / "segments").write_text("".join(f"{key} a 0 0.0{i % 9 + 1}\n" for i, key in enumerate(keys)))
    for table, value in (("utt2spk", "s"), ("text", "words")):
        (folder / table).write_text("".join(f"{key} {value}\n" for key in keys))
    read = []
    monkeypatch.setattr(fingerprint, "file_chunks", lambda path: read.append(path) or core.file_chunks(path))
    before = data_fingerprint(folder)
    assert len(read) == 1
    soundfile.write(folder / "wav/a.wav", np.zeros(900), 8000)
    assert data_fingerprint(folder) != before and len(read) == 2


def test_commands_are_not_run_and_archives_are_read(tmp_path):
    folder = data_dir(tmp_path / "x", names=("a",))
    (folder / "wav.scp").write_text(f"a touch {tmp_path}/ran |\n")
    data_fingerprint(folder)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "a.ark").write_bytes(b"one")
    (folder / "wav.scp").write_text(f"a {tmp_path}/a.ark:3\n")
    before = data_fingerprint(folder)
    (tmp_path / "a.ark").write_bytes(b"two!")
    assert data_fingerprint(folder) != before


def test_a_noisy_copy_of_other_data_is_refused(tmp_path):
    source, copy = data_dir(tmp_path / "test"), data_dir(tmp_path / "noisy/test_tel", seed=1)
    assert of_test_set(tmp_path / "gone") == "" and of_test_set(copy) == data_fingerprint(copy)
    record_copy(copy, source)
    assert of_test_set(copy) == data_fingerprint(copy)
    data_dir(source, names=("a", "b", "c"))
    with pytest.raises(
        UserError, match=r"test_tel: a noisy copy of other data than \S+test holds now; run stage 2 again"
    ):
        of_test_set(copy)


def test_banks_enter_where_a_noise_draws_from_them(tmp_path):
    for name in ("musan/noise/a.wav", "rirs/simulated_rirs/smallroom/r/r.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(10), 8000)
    banks = {"musan": str(tmp_path / "musan"), "rirs": str(tmp_path / "rirs")}
    of = lambda *kinds: noise_fingerprint(NoiseConfig(kinds, **banks))  # noqa: E731
    assert of("vup") == "" and of("additive") == bank_fingerprint(banks["musan"]) != of("rir")
    before = of("additive", "rir")
    soundfile.write(tmp_path / "rirs/simulated_rirs/smallroom/r/s.wav", np.zeros(10), 8000)
    assert of("additive", "rir") != before
