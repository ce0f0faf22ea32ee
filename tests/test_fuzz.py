"""Damaged files of every kind that is read: each is read, or refused in one line, never with a traceback."""

import io
import itertools
import json
import shutil
import wave
from dataclasses import asdict

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from irl.core.config import load
from irl.core.errors import UserError
from irl.core.text_files import read_log
from irl.data import images
from irl.data.audio import read_audio
from irl.data.features import FeatureConfig
from irl.data.image_parquet import from_parquet
from irl.data.kaldi import num_samples, read_data_dir, read_wave
from irl.data.text import WordVocabulary, words_of
from irl.data.vocabulary import Vocabulary
from irl.language.config import LanguageConfig
from irl.noise import corruptions
from irl.reporting import results
from irl.reporting.evaluation import read_counts
from irl.reporting.table_config import read_table_config
from irl.speech.evaluate import read_part
from irl.speech.task import read_statistics
from irl.training.checkpoint import load_model
from irl.vision.data import Statistics

X = 0.1 * np.sin(np.arange(600))
# What breaks readers: sizes, numbers, marks, separators, and the beginnings of other formats.
PIECES = [
    *(
        b"\0" * 4,
        b"\xff" * 4,
        b"\xff\xff\xff\x7f",
        b"\1",
        b"\n",
        b" ",
        b"\t",
        b"\r",
        b"\n\n",
        b"/",
        b"../",
        b"|",
        b":",
        b"\0",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xe2\x80\xa8",
        b"-1",
        b"1e400",
        b"nan",
        b"99999999999999999999",
        b"[",
        b"{",
        b'"',
    ),
    *(b"RIFF", b"RIFX", b"data", b"fLaC", b"OggS", b"ID3", b"AUDIO", b"NIST_1A", b"PK\3\4", b"%!PS", b"PAR1"),
]


def encoded(format, subtype=None, channels=1):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([X] * channels, axis=1), 16000, format=format, subtype=subtype)
    return buffer.getvalue()


def picture(format):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, format)
    return buffer.getvalue()


def parquet():
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    cells = [{"bytes": picture("PNG"), "path": ""}] * 2
    pyarrow.parquet.write_table(pyarrow.table({"img": cells, "label": [0, 1]}), buffer)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(buffer, images=pixels, labels=np.arange(2), numbers=np.arange(2), classes=np.array(["a", "b"]))
    return buffer.getvalue()


def read_sound(path):
    for suffix in (".wav", ".mp3", ".raw"):
        other = path.with_suffix(suffix)
        other.write_bytes(path.read_bytes())
        for part in ((), (100, 300)):
            found = None
            try:
                found = read_audio(other, 8000, *part, any_rate=True, any_channels=True)
            except UserError as error:
                assert "\n" not in str(error)
            assert found is None or np.isfinite(found).all()


def read_archive(path):
    for offset in (0, 4):
        read_audio(f"{path}:{offset}", 16000, any_rate=True, any_channels=True, kaldi=True)


def kaldi(name):
    def read(path):
        folder = path.parent / "dir"
        folder.mkdir(exist_ok=True)
        with wave.open(str(folder / "r.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(bytes(3200))
        tables = {**TABLES, "wav.scp": f"r {folder}/r.wav\n".encode(), name: path.read_bytes()}
        for table, content in tables.items():
            (folder / table).write_bytes(content.replace(b"DIR", str(folder).encode()))
        utterances = read_data_dir(folder)
        num_samples(folder, utterances, 16000)
        for u in utterances:
            read_wave(u, 16000)

    return read


TABLES = {
    "text": b"a-1 one two\na-2 three\n",
    "utt2spk": b"a-1 a\na-2 a\n",
    "segments": b"a-1 r 0.0 0.05\na-2 r 0.05 0.1\n",
    "utt2num_samples": b"a-1 800\na-2 800\n",
}


def image_in_folder(path):
    for suffix in (".png", ".jpg"):
        folder = path.parent / f"set{suffix}" / "class"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"x{suffix}").write_bytes(path.read_bytes())
        try:
            images.from_folder(folder.parent)
        except UserError as error:
            assert "\n" not in str(error)


def saved():
    buffer = io.BytesIO()
    torch.save({"model": {"model.a": torch.ones(2)}, "config": yaml.safe_load(CONFIG), "step": 3}, buffer)
    return buffer.getvalue()


def npy(shape, kind=np.uint8):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, kind))
    return buffer.getvalue()


def corruptions_in_folder(path):
    folder = path.parent / "corruptions"
    folder.mkdir(exist_ok=True)
    np.save(folder / "labels.npy", np.zeros(2, np.int64))
    np.save(folder / "fog.npy", np.zeros((10, 4, 4, 3), np.uint8))
    for name in ("labels", "fog"):
        shutil.copy(path, folder / f"{name}.npy")
        try:
            corruptions.read(folder, np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64))
        except UserError as error:
            assert "\n" not in str(error)


def counts_in_folder(path):
    folder = path.parent / "run" / "evaluate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.json").write_bytes(path.read_bytes())
    list(read_counts(folder, {"test": "x"}))


CONFIG = b"task: language\ntrain_text: a\ndev_text: b\nvocabulary: c\nmodel: {units: 8}\ntrain: {updates: 9}\n"
COUNTS = {"errors": [1, 0], "reference": [3, 4], "data": "x"}
PRODUCT = {"fingerprint": {"weights": "w", "options": {}, "data": "x"}, "errors": [1, 0], "reference": [3, 4]}
LINE = {"corpus": "a", "method": "b", "digest": "c", "decode": {}, "conditions": {"test": COUNTS}, "seed": 1,
        "config": {}, "updates": 9, "commit": "d", "versions": {}, "train_seconds": 1.5}  # fmt: skip
PART = (b'{"fingerprint": {"a": 1}, "seconds": 1.0, "audio": 2.0, "utterances": 1}\n'
        b'{"id": "u", "nbest": [{"text": "a", "tokens": [1], "score": -1.0}]}\n')  # fmt: skip
SUMS = {"frames": 9, "sum": [1.0] * 80, "sum_of_squares": [2.0] * 80, "features": asdict(FeatureConfig())}
COLORS = {"pixels": 9, "sum": [9.0] * 3, "products": np.eye(3).tolist()}
SOUNDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
          ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "ULAW"), ("NIST", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", None),
          ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]  # fmt: skip

# By kind of file: what reads one, and whole files of it.
READERS = {
    "audio": (read_sound, lambda: [encoded(*sound) for sound in SOUNDS] + [encoded("WAV", "PCM_16", 2)]),
    "ark": (read_archive, lambda: [b"key " + encoded("WAV", "ULAW"), encoded("WAV"), b"key AUDIO\2\0\1" + bytes(256)]),
    "wav.scp": (kaldi("wav.scp"), lambda: [b"r DIR/r.wav\n", b"r DIR/r.wav:0\n"]),
    **{name: (kaldi(name), lambda name=name: [TABLES[name]]) for name in TABLES},
    "image": (image_in_folder, lambda: [picture(format) for format in ("PNG", "JPEG", "BMP", "WEBP", "PPM", "GIF")]),
    "parquet": (lambda path: from_parquet(path, ["a", "b"]), lambda: [parquet()]),
    "image set": (images.read, lambda: [npz()]),
    "words": (lambda path: list(words_of(path)), lambda: [b"the cat\nsat\n", "the c\u00e4t\n".encode("utf-16")]),
    "word vocabulary": (WordVocabulary.read, lambda: [b"<eos> 3\nthe 2\n<unk> 1\n"]),
    "vocabulary": (Vocabulary.read, lambda: [b"<blank>\n<unk>\na\n<space>\n<sos/eos>\n"]),
    "feature statistics": (lambda p: read_statistics(p, FeatureConfig()), lambda: [json.dumps(SUMS).encode()]),
    "configuration": (lambda path: load(LanguageConfig, path), lambda: [CONFIG, b"base: x.bin\n"]),
    "table configuration": (read_table_config, lambda: [b"methods: {a: A, b: B}\ntests: [[a, b]]\nfar_off: [b]\n"]),
    "checkpoint": (lambda path: load_model(path, "language", LanguageConfig), lambda: [saved()]),
    "results": (lambda path: results.read(path, results.SHOWN), lambda: [json.dumps(LINE).encode() + b"\n"]),
    "metrics": (read_log, lambda: [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n']),
    "decoded part": (lambda path: read_part(path, {"a": 1}), lambda: [PART]),
    "counts": (counts_in_folder, lambda: [json.dumps(PRODUCT).encode()]),
    "corruptions": (corruptions_in_folder, lambda: [npy((10, 4, 4, 3)), npy((2,), np.int64)]),
    "colour statistics": (Statistics.read, lambda: [json.dumps(COLORS).encode()]),
}


def damaged(whole, rng):
    """A whole file with a few places cut, changed or repeated, mostly at its beginning; one in three is noise."""
    if rng.random() < 1 / 3:
        return rng.randbytes(rng.randint(0, 300))
    content = bytearray(rng.choice(whole))
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(content) if rng.random() < 0.5 else min(len(content), 64))
        size = rng.randint(0, 8)
        piece = rng.randbytes(size) if rng.random() < 0.5 else rng.choice(PIECES)
        kind = rng.choice(["replace", "insert", "cut", "end", "repeat"])
        if kind == "end":
            del content[at:]
        else:
            stop = {"replace": at + len(piece), "insert": at, "cut": at + size * size, "repeat": at}[kind]
            content[at:stop] = {"cut": b"", "repeat": content[at : at + size * 8] * 2}.get(kind, piece)
    return bytes(content)


def fuzz(name, folder, count):
    read, whole = READERS[name]
    files = whole()
    numbers = itertools.count()

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    # One draw an input: a strategy that draws every place takes longer than most readers.
    @given(st.randoms(use_true_random=True))
    def check(rng):
        # A new name each time: what is kept of a file is known by its name, size and time.
        path = folder / f"{next(numbers)}.bin"
        path.write_bytes(damaged(files, rng))
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error) and str(error)
        finally:
            for left in folder.glob(f"{path.stem}.*"):
                left.unlink()

    check()


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    fuzz(name, tmp_path, 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(tmp_path, name):
    fuzz(name, tmp_path, 10_000)
