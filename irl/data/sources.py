"""Where audio comes from: files, entries of archives, the output of commands, and formats that libsndfile lacks."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import stat
import subprocess
import wave
from pathlib import Path
from typing import Any

from irl.core.errors import UserError
from irl.core.fingerprint import stamp
from irl.data import containers

# Formats that libsndfile does not know, by suffix, and the one demuxer of FFmpeg that may read them. The content of a
# file does not choose it: some of FFmpeg's demuxers open further files and addresses that a file names.
DEMUXERS = {
    **dict.fromkeys((".m4a", ".m4b", ".mp4", ".mov", ".3gp"), "mov"),
    **dict.fromkeys((".webm", ".mka", ".mkv"), "matroska"),
    ".aac": "aac",
    ".amr": "amr",
    ".wma": "asf",
    ".shn": "shn",
}
# libsndfile reports this length for FLAC that an encoder has written to a pipe.
UNKNOWN = 2**63 - 1
BLOCK = 2**20  # samples that are decoded at once
# Seconds by which a decoder may fall short of the length that a file states, as encoders' delays do.
TOLERANCE = 0.1


class SourceError(Exception):
    """Why a source cannot be read, without its name."""


def open_audio(source: str, kaldi: bool, where: str) -> Any:
    """An open soundfile.SoundFile. Arguments as of `read_audio`; raises UserError that begins with `where`."""
    entry = re.fullmatch(r"(.+):([0-9]{1,18})", source, re.S) if kaldi else None
    try:
        if kaldi and source.rstrip().endswith("|"):
            return _opened(_output(source.rstrip()[:-1]))
        if entry and not os.path.exists(source):
            return _opened(_archived(entry[1], int(entry[2])))
        return _of_file(source)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{where}: a folder, expected a file of audio") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror or error}") from None
    except (SourceError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{where}: cannot be read as audio: {error}") from None


def _opened(source: str | bytes, problem: str | None = None) -> Any:
    """A path, or the content of a file, whose header must be right about its length. problem: with it, if it is known
    already."""
    import soundfile

    if problem is None:
        with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
            problem = containers.problem(file)
    if problem:
        raise SourceError(problem)
    try:
        audio = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except soundfile.LibsndfileError as error:
        raise SourceError(error.error_string.rstrip(".") or "damaged or cut off") from None
    problem = containers.problem_in_log(audio.extra_info)
    # Of an MP3 file that does not state its length, libsndfile reads as many samples as it guesses.
    longer = None if audio.format != "MP3" or problem else _mp3_with_length(source, audio.frames)
    if problem or longer:
        audio.close()
    if problem:
        raise SourceError(problem)
    if audio.frames == UNKNOWN:
        longer = _with_length(audio)
    return soundfile.SoundFile(io.BytesIO(longer)) if longer else audio


def _with_length(audio: Any) -> bytes:
    """All samples of a stream that does not state its length, as a WAV file of floats."""
    import soundfile

    # soundfile jumps to where it is after each read, which libsndfile cannot here, unless the file seems to allow none.
    audio._info.seekable = False
    whole = io.BytesIO()
    with audio, soundfile.SoundFile(whole, "w", audio.samplerate, audio.channels, "FLOAT", format="WAV") as file:
        while len(block := audio.read(BLOCK, dtype="float32", always_2d=True)):
            file.write(block)
    return whole.getvalue()


def _of_file(path: str) -> Any:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SourceError("it is a pipe or a device, expected a file")
    with open(path, "rb") as file:
        head, problem = file.read(4096), containers.problem(file)
    # libsndfile takes this length for granted.
    if head[:4] in (b"RIFF", b"RIFX") and (data := containers.wav_data(io.BytesIO(head))) and not data.size:
        return _opened(containers.of_stream(Path(path).read_bytes()))
    demuxer = "nistsphere" if head.startswith(b"NIST_1A") else DEMUXERS.get(Path(path).suffix.lower())
    try:
        return _opened(path, problem)
    except SourceError as error:
        if demuxer is None or demuxer == "nistsphere" and b"shorten" not in head[:1024]:
            raise
        try:
            return _opened(_decoded(path, demuxer, stamp(Path(path))))
        except SourceError as other:
            raise SourceError(f"{error}; {other}") from None


def _mp3_with_length(source: str | bytes, frames: int) -> bytes | None:
    if isinstance(source, bytes):
        return containers.mp3_with_length(source, frames)
    return _mp3_file_with_length(source, frames, stamp(Path(source)))


@functools.lru_cache(maxsize=4)
def _mp3_file_with_length(path: str, frames: int, stamp: tuple[int, ...]) -> bytes | None:
    return containers.mp3_with_length(Path(path).read_bytes(), frames)


def _archived(path: str, offset: int) -> bytes:
    """The audio file that begins at an offset of a Kaldi archive: as written by Kaldi (RIFF), kaldiio (FLAC) or lhotse
    and ESPnet (any format behind `AUDIO` and its length). Nothing else is read: such archives may also hold pickles."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(offset)
        magic = file.read(5)
        if magic.startswith(b"RIFF"):
            data = containers.wav_data(file, offset)
            if data is None:
                raise SourceError("the RIFF file at that offset of the archive has no samples")
            file.seek(offset)
            return file.read(min(size, data.begin + data.size) - offset)
        if magic == b"AUDIO":
            length = int.from_bytes(file.read(int.from_bytes(file.read(1), "little")), "little")
            if length > size - file.tell():
                raise SourceError(f"the archive is cut off: {length} bytes of audio should follow")
            return file.read(length)
        if magic.startswith(b"fLaC"):
            return magic + file.read()
    raise SourceError(f"not audio at that offset of the archive, it begins with {magic!r}")


@functools.lru_cache(maxsize=4)
def _output(command: str) -> bytes:
    """What a shell command writes, all of it. It runs once for the segments of a recording that are read in a row.

    Each program of a pipeline must succeed, except one whose output the next does not read to its end.
    """
    bash = shutil.which("bash")
    line = [bash, "-o", "pipefail", "-c", command] if bash else ["/bin/sh", "-c", command]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode not in (0, 141):  # 128 + SIGPIPE
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceError(f"the command ended with status {done.returncode}{': ' if said else ''}{' '.join(said[-1:])}")
    if not done.stdout:
        raise SourceError("the command wrote nothing")
    return containers.of_stream(done.stdout)


@functools.lru_cache(maxsize=4)
def _decoded(path: str, demuxer: str, stamp: tuple[int, ...]) -> bytes:
    """A file of a format that libsndfile lacks as the content of a wav file, by PyAV, or by a program."""
    try:
        import av  # noqa: F401

        return _by_pyav(path, demuxer)
    except ImportError:
        pass
    # No shell, no demuxer but the named one, no protocol but that of files.
    ffmpeg = "ffmpeg -nostdin -v error -xerror -protocol_whitelist file,pipe -f".split()
    commands = [[*ffmpeg, demuxer, "-i", os.path.abspath(path), *"-vn -f wav -c:a pcm_s16le pipe:1".split()]]
    if demuxer == "nistsphere":
        commands.append(["sph2pipe", "-p", "-f", "wav", os.path.abspath(path)])
    for command in commands:
        if shutil.which(command[0]):
            return _by_program(command)
    what = "shorten" if demuxer in ("nistsphere", "shn") else f"{Path(path).suffix[1:]} files"
    raise SourceError(f"for {what} install PyAV (pip install av), or put {' or '.join(c[0] for c in commands)} on PATH")


def _by_program(command: list[str]) -> bytes:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceError(f"{command[0]}: {said[-1] if said else f'ended with status {done.returncode}'}")
    return done.stdout


def _by_pyav(path: str, demuxer: str) -> bytes:
    """The first audio stream as 16-bit wav. PyAV gets an open file instead of a name: it can open nothing else."""
    import av

    blocks = []
    try:
        with open(path, "rb") as file, av.open(file, format=demuxer) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="s16")
            for frame in (*container.decode(stream), None):
                blocks += [out.to_ndarray().tobytes() for out in resampler.resample(frame)]
            rate, channels = stream.rate, stream.channels
            stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    except (av.error.FFmpegError, IndexError) as error:
        raise SourceError(f"PyAV: {error}") from None
    samples = b"".join(blocks)
    found = len(samples) / 2 / channels / rate
    if found < stated - TOLERANCE:
        raise SourceError(f"it is cut off: the header promises {stated:.2f} s, the file holds {found:.2f} s")
    content = io.BytesIO()
    with wave.open(content, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples)
    return content.getvalue()
