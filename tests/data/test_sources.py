"""Audio that is not what its header says, and audio from commands and archives."""

import io
import struct

import numpy as np
import pytest
import soundfile

from irl.core.errors import UserError
from irl.data.audio import audio_info, read_audio
from irl.data.kaldi import read_data_dir, read_wave, write_table

RATE = 16000
X = (0.3 * np.sin(0.05 * np.arange(4000))).astype(np.float32)


def encoded(format, subtype=None, x=X):
    buffer = io.BytesIO()
    soundfile.write(buffer, x, RATE, format=format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC", "OGG", "MP3"])
def test_files_that_are_cut_off_are_refused(tmp_path, format):
    content = encoded(format)
    path = tmp_path / "x.audio"
    path.write_bytes(content)
    assert len(read_audio(path, RATE)) == len(X) == audio_info(path).frames
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match="x.audio: ") as error:
        read_audio(path, RATE)
    assert "cut off" in str(error.value) or "malformed" in str(error.value) or "lost sync" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"])
def test_every_coding_is_decoded_from_commands_and_archives(tmp_path, subtype):
    content = encoded("WAV", subtype)
    (tmp_path / "x.wav").write_bytes(content)
    (tmp_path / "x.ark").write_bytes(b"one " + content + b"two " + content)
    expected = read_audio(tmp_path / "x.wav", RATE)
    assert np.corrcoef(expected[: len(X)], X)[0, 1] > 0.99
    for entry in (f"cat {tmp_path}/x.wav |", f"{tmp_path}/x.ark:4", f"{tmp_path}/x.ark:{len(content) + 8}"):
        np.testing.assert_array_equal(read_audio(entry, RATE, kaldi=True), expected)
        np.testing.assert_array_equal(read_audio(entry, RATE, 100, 200, kaldi=True), expected[100:200])


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_that_an_encoder_wrote_to_a_pipe(tmp_path, channels):
    """ffmpeg -f flac - cannot go back to the header, which then says that the length is unknown."""
    content = bytearray(encoded("FLAC", x=np.stack([X] * channels, 1)))
    rate_and_length = int.from_bytes(content[18:26])
    assert content[:4] == b"fLaC" and rate_and_length & (2**36 - 1) == len(X)
    content[18:26] = (rate_and_length >> 36 << 36).to_bytes(8)
    path = tmp_path / "x.flac"
    path.write_bytes(content)
    assert audio_info(path) == (RATE, len(X))
    for source in (path, f"cat {path} |"):
        x = read_audio(source, RATE, kaldi=True, any_channels=True)
        np.testing.assert_allclose(x, X, atol=2**-15)
        part = read_audio(source, RATE, 100, 200, kaldi=True, any_channels=True)
        np.testing.assert_array_equal(part, x[100:200])
    path.write_bytes(content[:-400])
    try:
        assert len(read_audio(path, RATE, any_channels=True)) < len(X), "nothing tells how much is missing"
    except UserError as error:
        assert "x.flac: cannot be read as audio" in str(error)


def test_archives_of_other_formats(tmp_path):
    content = encoded("FLAC")
    size = len(content).to_bytes(2, "little")
    (tmp_path / "x.ark").write_bytes(b"key AUDIO\2" + size + content + b"key2 " + content)
    expected = np.round(X * 32768) / 32768
    for offset in (4, 4 + 8 + len(content) + 5):
        np.testing.assert_allclose(read_audio(f"{tmp_path}/x.ark:{offset}", RATE, kaldi=True), expected, atol=1e-4)
    (tmp_path / "x.ark").write_bytes(b"key AUDIO\2" + size + content[:-1])
    with pytest.raises(UserError, match="the archive is cut off"):
        read_audio(f"{tmp_path}/x.ark:4", RATE, kaldi=True)


def test_an_archive_that_is_cut_off(tmp_path):
    (tmp_path / "x.ark").write_bytes(b"key " + encoded("WAV")[:-100])
    with pytest.raises(UserError, match="the header promises 8000 bytes of samples, the file holds 7900"):
        read_audio(f"{tmp_path}/x.ark:4", RATE, kaldi=True)


def test_more_samples_than_the_header_says(tmp_path):
    path, content = tmp_path / "x.wav", encoded("WAV")
    path.write_bytes(content + content[44:])
    with pytest.raises(
        UserError, match="promises 8000 bytes of samples, but 8000 bytes more follow; the header is wron"
    ):
        read_audio(path, RATE)
    # What other programs append is no audio.
    tail = struct.pack("<4sI", b"LIST", 5) + b"INFOx\0"
    for end in (b"", b"\0" * 100, tail, tail[:-1], tail + tail, b"TAG" + bytes(125), b"ID3\4" + b"x" * 50):
        path.write_bytes(content + end)
        assert len(read_audio(path, RATE)) == len(X)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_streams_do_not_know_their_length(tmp_path, size):
    content = encoded("WAV")
    (tmp_path / "x.wav").write_bytes(content[:40] + struct.pack("<I", size) + content[44:])
    for entry in (f"{tmp_path}/x.wav", f"cat {tmp_path}/x.wav |"):
        assert len(read_audio(entry, RATE, kaldi=True)) == len(X)


def test_an_empty_recording_is_no_stream(tmp_path):
    tail = struct.pack("<4sI4s", b"LIST", 4, b"INFO")
    (tmp_path / "x.wav").write_bytes(encoded("WAV", x=X[:0]) + tail)
    assert len(read_audio(tmp_path / "x.wav", RATE)) == 0


@pytest.mark.parametrize(
    "command, message",
    [
        ("cat {0}; exit 3", "the command ended with status 3$"),
        ("head -c 3000 {0}", "it is cut off: the header promises 8000 bytes of samples, the file holds 2956"),
        ("cat {0}; kill -9 $$", "the command ended with status -9$"),
        ("no-such-program {0}", "the command ended with status 127: .*no-such-program: command not found"),
        ("no-such-program {0} | cat", "the command ended with status 127: .*no-such-program: command not found"),
        ("true", "the command wrote nothing"),
        ("echo text", "Format not recognised"),
    ],
)
def test_commands_that_fail_are_refused(tmp_path, command, message):
    (tmp_path / "x.wav").write_bytes(encoded("WAV"))
    with pytest.raises(UserError, match=f"cannot be read as audio: {message}") as error:
        read_audio(command.format(tmp_path / "x.wav") + " |", RATE, kaldi=True)
    assert "\n" not in str(error.value)


def test_a_command_need_not_be_read_to_its_end(tmp_path):
    (tmp_path / "x.wav").write_bytes(encoded("WAV"))
    entry = f"yes | head -c 10 >/dev/null; cat {tmp_path}/x.wav |"
    assert len(read_audio(entry, RATE, kaldi=True)) == len(X)


def test_a_command_runs_once_for_all_segments_of_a_recording(tmp_path):
    (tmp_path / "x.wav").write_bytes(encoded("WAV"))
    write_table(tmp_path / "wav.scp", {"r": f"echo ran >> {tmp_path}/log; cat {tmp_path}/x.wav |"})
    write_table(tmp_path / "segments", {f"u{i}": f"r {i / 100} {(i + 1) / 100}" for i in range(9)})
    write_table(tmp_path / "utt2spk", {f"u{i}": "a" for i in range(9)})
    utterances = read_data_dir(tmp_path, need_text=False, allow_pipes=True)
    parts = [read_wave(u, RATE) for u in utterances]
    np.testing.assert_array_equal(np.concatenate(parts), read_audio(tmp_path / "x.wav", RATE)[: 9 * 160])
    assert (tmp_path / "log").read_text() == "ran\n"


def mp3_frames(bitrates):
    """MPEG 2, layer III, 16 kHz, mono: frames of silence."""
    return b"".join(
        bytes([0xFF, 0xF3, index << 4 | 0x08, 0xC4]) + bytes(kbits * 72 * 1000 // RATE - 4) for index, kbits in bitrates
    )


@pytest.mark.parametrize("piped", [False, True])
def test_mp3_without_a_length_is_read_to_its_end(tmp_path, piped):
    """libsndfile guesses the length from the bit rate of the first frame."""
    path = tmp_path / "x.mp3"
    entry = f"cat {path} |" if piped else str(path)
    path.write_bytes(mp3_frames([(14, 160)] * 2 + [(2, 16)] * 100))
    assert soundfile.info(path).frames < 20 * 576, "the case that this is about"
    found = read_audio(entry, RATE, kaldi=True)
    # Without the decoder's delay, as of files that state their length.
    assert 101 * 576 <= len(found) <= 102 * 576
    constant = mp3_frames([(2, 16)] * 50)
    path.write_bytes(constant)
    np.testing.assert_array_equal(read_audio(path, RATE), soundfile.read(path, dtype="float32")[0])
