"""The one reader: files, parts of them, and formats that libsndfile does not know."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from irl.core.errors import UserError
from irl.data import audio
from irl.data.audio import audio_info, read_audio, resample
from irl.data.kaldi import num_samples, read_data_dir, read_wave, write_table

RATE = 16000
# What ffmpeg does as it is called: one demuxer, no protocol but that of files; a wav stream of unknown length.
FFMPEG = """#!{python}
import struct, sys
words = sys.argv[1:]
at = words.index("-i")
assert words[at - 2:at] == ["-f", "mov"] and words[words.index("-protocol_whitelist") + 1] == "file,pipe"
with open(words[at + 1], "rb") as file:
    magic, samples = file.read(4), file.read()
if magic != b"fake":
    sys.exit("Invalid data found when processing input")
form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 16000, 64000, 4, 16)
unknown = struct.pack("<I", 2**32 - 1)
head = b"RIFF" + unknown + b"WAVE" + form + b"data" + unknown
sys.stdout.buffer.write(head + samples)
"""


@pytest.fixture
def stereo():
    return np.round(8192 * np.random.default_rng(0).uniform(-1, 1, (RATE // 2, 2))).astype(np.int16)


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A decoder of files that begin with `fake`, alone on PATH."""
    path = tmp_path / "bin" / "ffmpeg"
    path.parent.mkdir()
    path.write_text(FFMPEG.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.fixture
def no_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("suffix, subtype", [(".wav", "PCM_16"), (".wav", "FLOAT"), (".wav", "ULAW"), (".flac", None)])
def test_a_part_is_cut_from_the_whole(tmp_path, suffix, subtype):
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, 0.1 * np.random.randn(1000), RATE, subtype=subtype)
    whole = read_audio(path, RATE)
    assert whole.dtype == np.float32 and np.array_equal(whole, soundfile.read(path, dtype="float32")[0])
    for start, stop in ((0, 10), (137, 300), (900, 2000), (5000, 6000), (10, None)):
        np.testing.assert_array_equal(read_audio(path, RATE, start, stop), whole[start:stop])
    assert audio_info(path) == (RATE, 1000)


def test_other_rates_and_channels_only_where_allowed(tmp_path, stereo):
    path = tmp_path / "x.wav"
    soundfile.write(path, stereo, RATE)
    with pytest.raises(UserError, match=r"x.wav: 2 channels, expected 1$"):
        read_audio(path, RATE)
    with pytest.raises(UserError, match=r"x.wav: sampling rate 16000 Hz, expected 8000$"):
        read_audio(path, 8000, any_channels=True)
    mean = (stereo / 32768).mean(1).astype(np.float32)
    np.testing.assert_allclose(read_audio(path, RATE, any_channels=True), mean, atol=1e-7)
    halved = read_audio(path, 8000, any_rate=True, any_channels=True)
    np.testing.assert_allclose(halved, resample(mean, RATE, 8000), atol=1e-6)
    part = read_audio(path, 8000, 100, 200, any_rate=True, any_channels=True)
    np.testing.assert_array_equal(part, halved[100:200])


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_a_part_of_a_lossy_format_is_cut_from_the_whole(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    noise = np.where(np.arange(60000) // 10000 % 2, 0.3, 0.001) * np.random.default_rng(0).normal(size=60000)
    soundfile.write(path, noise, RATE)
    with soundfile.SoundFile(path) as file:
        whole = file.read(dtype="float32")
    np.testing.assert_array_equal(read_audio(path, RATE), whole)
    for start, stop in ((12345, 13000), (50001, 60000)):
        np.testing.assert_array_equal(read_audio(path, RATE, start, stop), whole[start:stop])


@pytest.mark.parametrize("suffix, rate", [(".wav", 16000), (".wav", 22050), (".flac", 8000), (".ogg", 11025)])
def test_resampling_by_parts_equals_that_of_the_whole(tmp_path, monkeypatch, suffix, rate):
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, 0.1 * np.random.randn(50021, 2), 44100)
    whole = resample(soundfile.read(path, dtype="float32")[0].mean(1), 44100, rate)
    monkeypatch.setattr(audio, "BLOCK", 5000)
    parts = [(0, None), (0, 10), (137, 300), (4000, 9000), (len(whole) - 5, None), (len(whole), None), (10**6, None)]
    for start, stop in parts:
        found = read_audio(path, rate, start, stop, any_rate=True, any_channels=True)
        np.testing.assert_array_equal(found, whole[start:stop])


def test_a_channel_may_be_chosen(tmp_path, stereo):
    path = tmp_path / "x.wav"
    soundfile.write(path, stereo, RATE)
    for channel in (0, 1):
        np.testing.assert_array_equal(read_audio(path, RATE, channel=channel), (stereo[:, channel] / 32768))
    with pytest.raises(UserError, match="x.wav: 2 channels, asked for channel 2, counted from 0"):
        read_audio(path, RATE, channel=2)


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_channels_that_cancel_are_refused(tmp_path, stereo, rate):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([stereo[:, 0], -stereo[:, 0]], axis=1), RATE)
    with pytest.raises(UserError, match="x.wav: its 2 channels cancel each other when averaged"):
        read_audio(path, rate, any_rate=True, any_channels=True)
    soundfile.write(path, np.zeros((100, 2)), RATE)
    assert not read_audio(path, rate, any_rate=True, any_channels=True).any(), "silence is no cancellation"


@pytest.mark.parametrize("scale, found", [(32768, "3.277e\\+04"), (1e30, "1e\\+30")])
def test_values_of_another_range_are_refused(tmp_path, scale, found):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.array([0.0, -scale, 0.5 * scale]), RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=f"x.wav: samples up to {found}, expected -1 to 1; scale the file"):
        read_audio(path, RATE)
    soundfile.write(path, np.array([0.0, -3.5, 0.5]), RATE, subtype="FLOAT")
    assert read_audio(path, RATE).tolist() == [0.0, -3.5, 0.5], "filters and gains overshoot"


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(UserError, match="x.wav: cannot be read as audio: it is a pipe or a device, expected a file"):
        read_audio(tmp_path / "x.wav", RATE)
    with pytest.raises(UserError, match="a folder, expected a file of audio"):
        read_audio(tmp_path, RATE)
    for name in ("a\0b", "x" * 300):
        with pytest.raises(UserError, match="cannot be read"):
            read_audio(name, RATE)


def test_a_path_is_no_command(tmp_path):
    marker = tmp_path / "ran"
    with pytest.raises(UserError, match="no such file"):
        read_audio(f"touch {marker} |", RATE)
    assert not marker.exists()


def test_formats_beyond_libsndfile(tmp_path, stereo, ffmpeg):
    path = tmp_path / "x.m4a"
    path.write_bytes(b"fake" + stereo.tobytes())
    mean = (stereo / 32768).mean(1)
    np.testing.assert_allclose(read_audio(path, RATE, any_channels=True), mean, atol=1e-7)
    np.testing.assert_allclose(read_audio(path, RATE, 10, 20, any_channels=True), mean[10:20], atol=1e-7)
    assert audio_info(path) == (RATE, RATE // 2)
    with pytest.raises(UserError, match="x.m4a: 2 channels, expected 1"):
        read_audio(path, RATE)
    (tmp_path / "damaged.m4a").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"damaged.m4a: cannot be read as audio: .*; ffmpeg: Invalid data found"):
        read_audio(tmp_path / "damaged.m4a", RATE)
    # Its content does not choose a program.
    path.rename(tmp_path / "x.wav")
    with pytest.raises(UserError, match="x.wav: cannot be read as audio: Format not recognised$"):
        read_audio(tmp_path / "x.wav", RATE)


def test_data_directories_hold_any_format(tmp_path, stereo, ffmpeg):
    (tmp_path / "x.m4a").write_bytes(b"fake" + np.repeat(stereo[:, :1], 2, axis=1).tobytes())
    soundfile.write(tmp_path / "y.wav", stereo[:, 0], RATE)
    data = tmp_path / "data"
    write_table(data / "wav.scp", {"x": str(tmp_path / "x.m4a"), "y": str(tmp_path / "y.wav")})
    write_table(data / "utt2spk", {"x": "a", "y": "a"})
    x, y = utterances = read_data_dir(data, need_text=False)
    with pytest.raises(UserError, match="utterance x .*x.m4a.*: 2 channels, expected 1"):
        read_wave(x, RATE)
    assert len(read_wave(y, RATE)) == RATE // 2
    assert num_samples(data, utterances, RATE).tolist() == [RATE // 2, RATE // 2]


SHORTEN = b"NIST_1A\n   1024\nsample_count -i 100\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n".ljust(
    1100
)


@pytest.mark.parametrize(
    "name, content, hint",
    [
        ("x.m4a", b"fake", "; for m4a files install PyAV (pip install av), or put ffmpeg on PATH"),
        ("x.wv1", SHORTEN, "; for shorten install PyAV (pip install av), or put ffmpeg or sph2pipe on PATH"),
        ("x.wav", b"fake", "cannot be read as audio: Format not recognised"),
    ],
)
def test_what_is_missing_is_said(tmp_path, no_ffmpeg, name, content, hint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_audio(tmp_path / name, RATE)
    assert str(error.value).endswith(hint) and "\n" not in str(error.value)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_ffmpeg_itself(tmp_path):
    x = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "x.wav", x, RATE)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", tmp_path / "x.m4a"], check=True)
    y = read_audio(tmp_path / "x.m4a", RATE)
    assert np.corrcoef(x[1000:15000], y[1000:15000])[0, 1] > 0.99
