"""Pictures of what a recogniser hears: one utterance under every test condition, side by side."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.data.audio import audio_info
from irl.data.kaldi import Utterance, read_data_dir, read_wave

# Decibels below the loudest point of all panels at which the colour scale ends.
DYNAMIC_RANGE = 80.0
MELS = 80
COLUMNS = 2


def spectrograms(utterance_id: str, data_dirs: Mapping[str, Path], out: Path, allow_pipes: bool = False) -> None:
    """Mel spectrograms in dB of one utterance, a panel for each condition in the order given, into the PNG `out`.

    data_dirs: the data directory of each condition, the clean one first; the condition is the panel's title. All
    panels share one colour scale from the loudest point among them down, so that differences in level show too.
    allow_pipes: as of `read_data_dir`. Raises UserError if a directory lacks the utterance or has another rate.
    """
    import librosa

    rate, power = 0, {}
    for condition, data_dir in data_dirs.items():
        utterance = _find(utterance_id, Path(data_dir), allow_pipes)
        rate = rate or audio_info(utterance.wav, kaldi=True, where=f"utterance {utterance_id} ({utterance.wav})").rate
        power[condition] = librosa.feature.melspectrogram(
            y=read_wave(utterance, rate), sr=rate, n_mels=MELS, **_frames(rate)
        )
    if not power:
        raise UserError(f"{out}: no conditions to draw")
    loudest = max(float(p.max()) for p in power.values()) or 1.0
    levels = {c: librosa.power_to_db(p, ref=loudest, top_db=None) for c, p in power.items()}
    atomic_io.write(out, _draw(levels, rate, utterance_id))


def _find(utterance_id: str, data_dir: Path, allow_pipes: bool) -> Utterance:
    for utterance in read_data_dir(data_dir, need_text=False, allow_pipes=allow_pipes):
        if utterance.id == utterance_id:
            return utterance
    raise UserError(f"{data_dir}: has no utterance {utterance_id}")


def _frames(rate: int) -> dict[str, Any]:
    """Windows of 32 ms every 8 ms; spectra twice as fine, so that the lowest mel filters hold a frequency each."""
    return {"n_fft": round(0.064 * rate), "win_length": round(0.032 * rate), "hop_length": round(0.008 * rate)}


def _draw(levels: Mapping[str, np.ndarray], rate: int, title: str) -> bytes:
    """A PNG of panels in two columns. levels: (mels, frames) in dB, 0 at the loudest point."""
    from librosa.display import specshow
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(levels))
    rows = math.ceil(len(levels) / columns)
    fig = Figure(figsize=(5.5 * columns, 0.6 + 2.1 * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    image: Any = None
    for panel, (condition, x) in zip(axes.flat, levels.items()):
        image = specshow(
            x,
            sr=rate,
            x_axis="time",
            y_axis="mel",
            ax=panel,
            vmin=-DYNAMIC_RANGE,
            vmax=0,
            cmap="magma",
            **_frames(rate),
        )
        panel.set_title(condition, fontsize=10)
        panel.set_xlabel("time (s)")
        panel.label_outer()
    for panel in axes.flat[len(levels) :]:
        panel.set_visible(False)
    fig.colorbar(image, ax=axes, format="%+.0f dB", shrink=0.6)
    fig.suptitle(title)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
