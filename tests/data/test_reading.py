"""The one reader: files, parts of them, and formats that libsndfile does not know."""

import shutil
import subprocess
import sys

import audioread
import numpy as np
import pytest
import soundfile

from irl.core.errors import UserError
from irl.data.audio import audio_info, read_audio, resample
from irl.data.kaldi import num_samples, read_data_dir, read_wave, write_table

RATE = 16000
# audioread imports modules of the standard library that end with Python 3.13.
pytestmark = pytest.mark.filterwarnings("ignore:.*slated for removal in Python 3.13:DeprecationWarning")
# What ffmpeg does as audioread calls it: describe the stream on stderr, write 16-bit samples to stdout.
FFMPEG = """#!{python}
import sys
if "-i" in sys.argv:
    with open(sys.argv[sys.argv.index("-i") + 1], "rb") as file:
        magic, samples = file.read(4), file.read()
    if magic != b"fake":
        sys.exit("Invalid data found when processing input")
    print("Duration: 00:00:00.5, bitrate\\n  Stream #0:0: Audio: aac, 16000 Hz, stereo, fltp", file=sys.stderr)
    sys.stdout.buffer.write(samples)
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
    audioread.available_backends(flush_cache=True)
    yield path
    monkeypatch.undo()
    audioread.available_backends(flush_cache=True)


@pytest.fixture
def no_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    audioread.available_backends(flush_cache=True)
    yield
    monkeypatch.undo()
    audioread.available_backends(flush_cache=True)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_part_is_cut_from_the_whole(tmp_path, subtype):
    path = tmp_path / "x.wav"
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
    for name in ("damaged.m4a", "damaged.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
        with pytest.raises(UserError, match=rf"{name}: cannot be read as audio: [^;]*$"):
            read_audio(tmp_path / name, RATE)


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
    assert num_samples(data, utterances, RATE) == {"x": RATE // 2, "y": RATE // 2}


def test_what_is_missing_is_said(tmp_path, no_ffmpeg):
    for name, hint in (("x.m4a", "; other formats need ffmpeg on PATH"), ("x.wav", "")):
        (tmp_path / name).write_bytes(b"fake")
        with pytest.raises(UserError) as error:
            read_audio(tmp_path / name, RATE)
        assert str(error.value).rstrip(".").endswith(f"Format not recognised{hint}") and "\n" not in str(error.value)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_ffmpeg_itself(tmp_path):
    x = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "x.wav", x, RATE)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", tmp_path / "x.m4a"], check=True)
    audioread.available_backends(flush_cache=True)
    y = read_audio(tmp_path / "x.m4a", RATE)
    assert np.corrcoef(x[1000:15000], y[1000:15000])[0, 1] > 0.99
