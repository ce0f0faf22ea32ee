"""The one reader of audio, and the one resampler. Needs no torch; libraries load with the first file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irl.core.errors import UserError

# Files that a folder of audio, such as a bank of noises, consists of.
AUDIO_SUFFIXES = tuple(".wav .flac .ogg .opus .mp3 .m4a .aac .wma .webm .aif .aiff .au .caf .w64 .sph".split())


class AudioInfo(NamedTuple):
    """Sampling rate in Hz and length in samples at that rate."""

    rate: int
    frames: int


def read_audio(
    source: Path | str,
    rate: int,
    start: int = 0,
    stop: int | None = None,
    *,
    any_rate: bool = False,
    any_channels: bool = False,
    kaldi: bool = False,
    where: str = "",
) -> np.ndarray:
    """float32 (n,) in [-1, 1]: samples `start` to `stop` at `rate`, fewer where the recording ends before.

    any_rate: resample a file of another sampling rate instead of refusing it. any_channels: average several channels
    instead of refusing them. kaldi: `source` is an entry of wav.scp, so it may also be `archive.ark:offset` or a shell
    command that ends in a pipe; the command runs. where: how errors name the source, by default its path.

    Raises UserError if the source is missing, is not audio, has another rate or several channels, or holds NaN.
    """
    where, part = where or str(source), slice(start, stop)
    found, x = _decode(str(source), rate, part, kaldi, where)
    if found != rate and not any_rate:
        raise UserError(f"{where}: sampling rate {found} Hz, expected {rate}")
    if x.shape[1] > 1 and not any_channels:
        raise UserError(f"{where}: {x.shape[1]} channels, expected 1")
    x = x[:, 0] if x.shape[1] == 1 else x.mean(axis=1)
    if found != rate:
        x = resample(x, found, rate)[part]
    if not np.isfinite(x).all():
        raise UserError(f"{where}: holds samples that are not finite (NaN or infinity)")
    return x


def audio_info(source: Path | str, *, kaldi: bool = False, where: str = "") -> AudioInfo:
    """Rate and length from the header; what libsndfile does not know is decoded. Arguments as of `read_audio`."""
    import soundfile

    try:
        info = soundfile.info(str(source))
        return AudioInfo(info.samplerate, info.frames)
    except soundfile.LibsndfileError:
        rate, x = _decode(str(source), 0, slice(None), kaldi, where or str(source))
        return AudioInfo(rate, len(x))


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Polyphase resampling of the last axis, float32, by scipy.

    Everything is resampled here, so a recogniser hears its training data and a file to transcribe through one filter.
    torchaudio's default takes as long (0.6 to 1.9 times, 8 to 48 kHz) and damps less: a tone 15 % above the new Nyquist
    frequency comes back at -20 dB, here at -43 dB. Its Kaiser window of width 64 is clean and 1.5 to 8 times as slow.
    """
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, new_rate)
    return resample_poly(x, new_rate // divisor, rate // divisor, axis=-1).astype(np.float32)


def _decode(source: str, rate: int, part: slice, kaldi: bool, where: str) -> tuple[int, np.ndarray]:
    """Sampling rate and float32 (n, channels): `part` of the samples, or all of them where the rate is not `rate`."""
    import soundfile

    archive = kaldi and source.rpartition(":")[2].isdigit()
    file = not archive and not (kaldi and source.endswith("|"))
    try:
        if file:
            with soundfile.SoundFile(source) as audio:
                found: int = audio.samplerate
                begin, end, _ = (part if found == rate else slice(None)).indices(audio.frames)
                if begin:
                    audio.seek(begin)
                return found, audio.read(max(0, end - begin), dtype="float32", always_2d=True)
        found, x = _by_kaldiio(source, archive)
    except Exception as error:  # soundfile, kaldiio and a pipe's command fail in many ways; all mean the same here
        if file and not Path(source).is_file():
            raise UserError(f"{where}: no such file") from None
        other = _by_librosa(source) if file else None
        if other is None or isinstance(other, str):
            reason = f"{str(error).rstrip('.')}; {other}" if other else error
            raise UserError(f"{where}: cannot be read as audio: {reason}") from None
        found, x = other
    return found, x[part] if found == rate else x


def _by_kaldiio(entry: str, archive: bool) -> tuple[int, np.ndarray]:
    """An `archive.ark:offset` or a command that ends in a pipe."""
    import kaldiio

    if archive:
        _check_archive(entry)
    rate, x = kaldiio.load_mat(entry)
    if x.dtype == np.uint8:
        x = x.astype(np.float32) / 128 - 1
    elif x.dtype.kind == "i":
        x = x.astype(np.float32) / -float(np.iinfo(x.dtype).min)
    return rate, x.astype(np.float32).reshape(len(x), x[:1].size or 1)


def _check_archive(entry: str) -> None:
    """Let only audio through: kaldiio would also unpickle what an archive holds, that is, run code from it."""
    path, _, offset = entry.rpartition(":")
    with open(path, "rb") as file:
        file.seek(int(offset))
        magic = file.read(5)
    if not magic.startswith((b"RIFF", b"fLaC", b"AUDIO")):
        raise ValueError(f"not audio at that offset of the archive, it begins with {magic!r}")


def _by_librosa(path: str) -> tuple[int, np.ndarray] | str:
    """A format that libsndfile does not know (m4a, aac, webm ...), by librosa and a decoder that audioread finds.

    Returns instead what is missing where the format is not libsndfile's and no decoder is installed, "" where the file
    is damaged.
    """
    import soundfile

    known = Path(path).suffix[1:].upper() in soundfile.available_formats()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of modules of the standard library, before 3.13
            import audioread.rawread
    except ImportError:
        return "" if known else "other formats need librosa (pip install librosa) and ffmpeg"
    # The decoder of the standard library knows nothing that libsndfile does not, and takes damaged files for whole.
    decoders = [d for d in audioread.available_backends() if d is not audioread.rawread.RawAudioFile]
    if not decoders:
        return "" if known else "other formats need ffmpeg on PATH"
    try:
        import librosa

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # librosa announces the end of this way in its 1.0
            x, rate = librosa.load(audioread.audio_open(path, decoders), sr=None, mono=False)
    except Exception:  # the decoders fail in many ways; libsndfile's error is the one to show
        return ""
    return int(rate), (x[:, None] if x.ndim == 1 else x.T)
