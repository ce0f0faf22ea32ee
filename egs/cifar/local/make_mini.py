#!/usr/bin/env python3
"""Make the mini corpus: local/make_mini.py OUT

Handwritten digits that people wrote (scikit-learn's load_digits, UCI), enlarged, in warm colours on textured
backgrounds of cool ones, each beside a cool, fainter digit that does not count: which one counts shows in its colour
alone, so noise on colours matters. Each written digit is in one of train, dev and test only; every image is a function
of this code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.core.logging import progress
from irl.core.rng import Keys
from irl.data.images import Images, write

# Of every ten written digits seven are for training, one for dev, two for testing; each is drawn that many times.
SPLITS = {"train": (range(0, 7), 4), "dev": (range(7, 8), 2), "test": (range(8, 10), 2)}
SIZE, GLYPH = 32, 22


def glyph(digit: np.ndarray) -> np.ndarray:
    """8 x 8 in [0, 16] -> how much of each pixel is ink, (GLYPH, GLYPH) in [0, 1]."""
    picture = Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((GLYPH, GLYPH), Image.Resampling.BICUBIC)
    return np.asarray(picture) / 255.0


def texture(draws: np.ndarray) -> np.ndarray:
    """A smooth field of cool colours (SIZE, SIZE, 3) from 4 x 4 x 3 uniform draws."""
    colors = np.array([30, 60, 80]) + draws.reshape(4, 4, 3) * np.array([60, 80, 90])
    picture = Image.fromarray(colors.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(picture).astype(float)


def ink(image: np.ndarray, digit: np.ndarray, color: np.ndarray, corner: np.ndarray) -> None:
    """Draw a digit onto an image, its corner at (y, x)."""
    y, x = corner
    window = image[y : y + GLYPH, x : x + GLYPH]
    opacity = glyph(digit)[..., None]
    window[:] = (1 - opacity) * window + opacity * color


def render(digits: np.ndarray, own: int, other: int, u: np.ndarray) -> np.ndarray:
    """One image: digit `own` in a warm colour over digit `other` in a cool one, from 64 uniform draws u."""
    image = texture(u[:48])
    places = (u[48:52].reshape(2, 2) * (SIZE - GLYPH + 1)).astype(int)
    cool = np.array([60, 130, 140]) + u[52:55] * np.array([40, 60, 60])
    warm = np.array([170, 90, 30]) + u[55:58] * np.array([70, 70, 50])
    ink(image, digits[other], cool, places[0])
    ink(image, digits[own], warm, places[1])
    grain = np.random.default_rng(int(u[58] * 2**32)).normal(0, 6, image.shape)
    return (image + grain).clip(0, 255).astype(np.uint8)


def main() -> None:
    from sklearn.datasets import load_digits

    parser = Parser(description="Make the mini corpus.")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    written = load_digits()
    for name, (tenths, times) in SPLITS.items():
        rows = np.flatnonzero(np.isin(np.arange(len(written.target)) % 10, list(tenths)))
        numbers = (rows[:, None] * 10 + np.arange(times)).ravel()
        keys = Keys(torch.from_numpy(numbers), 1, "mini digits")
        u = keys.uniform(64).numpy()
        others = rows[keys.sub("other").integers(1, len(rows))[:, 0].numpy()]
        pairs = zip(np.repeat(rows, times), others, u)
        images = [render(written.images, *pair) for pair in progress(pairs, name, total=len(numbers), unit="image")]
        labels = np.repeat(written.target[rows], times).astype(np.int64)
        write(args.out / f"{name}.npz", Images(np.stack(images), labels, numbers, list("0123456789")))
    print(f"images: {args.out}/{{{','.join(SPLITS)}}}.npz")


if __name__ == "__main__":
    run_command(main)
