"""Corruptions of test images at five severities, those of CIFAR-10-C that need no other data (Hendrycks and Dietterich
2019), with its parameters for 32 x 32 pixels; and its layout on disk: NAME.npy holds the severities one after another.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch

from irl.core.errors import UserError
from irl.core.fingerprint import content_fingerprint, file_chunks, remembered, stamp
from irl.core.logging import logger
from irl.core.rng import Keys

SEVERITIES = 5
GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, of pixels in [0, 1]
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation in pixels
QUALITY = (80, 65, 58, 50, 40)


def check_bytes(images: np.ndarray) -> None:
    """Raise ValueError for pixels that are not of 8 bits: in [0, 1] they would come out black."""
    if images.dtype != np.uint8:
        raise ValueError(f"expected 8-bit images, pixels of 0 to 255, found {images.dtype}")


def gaussian_noise(images: np.ndarray, severity: int, numbers: np.ndarray) -> np.ndarray:
    check_bytes(images)
    keys = Keys(torch.from_numpy(numbers), 0, f"corruption/gaussian_noise/{severity}")
    parts = (replace(keys, ids=ids) for ids in keys.ids.split(100))
    noise = np.concatenate([keys.normal(images[0].size).numpy() for keys in parts])
    noisy = images / 255.0 + GAUSSIAN[severity - 1] * noise.reshape(images.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8)


def gaussian_blur(images: np.ndarray, severity: int, numbers: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    check_bytes(images)
    sigma = BLUR[severity - 1]
    blurred = gaussian_filter(images / 255.0, (0, sigma, sigma, 0), mode="nearest")
    return (blurred.clip(0, 1) * 255).astype(np.uint8)


def jpeg_compression(images: np.ndarray, severity: int, numbers: np.ndarray) -> np.ndarray:
    from PIL import Image

    found = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY[severity - 1])
        found.append(np.asarray(Image.open(buffer)))
    return np.stack(found)


# uint8 (N, H, W, 3), a severity from 1 on, the images' numbers -> uint8 of the same shape.
CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.ndarray], np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "gaussian_blur": gaussian_blur,
    "jpeg_compression": jpeg_compression,
}


# CIFAR-10-C has four more, for tuning: published means leave them out.
PUBLISHED = set(
    "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog brightness "
    "contrast elastic_transform pixelate jpeg_compression".split()
)


def _paths(folder: Path) -> list[Path]:
    """Of all corruptions there, or of the 15 of published means if they are among them."""
    paths = sorted(path for path in folder.glob("*.npy") if path.stem != "labels")
    if not paths:
        raise UserError(f"{folder}: no corruption (NAME.npy) is there")
    found = {path.stem for path in paths}
    return [path for path in paths if path.stem in PUBLISHED] if found > PUBLISHED else paths


def names(folder: Path) -> list[str]:
    """The names of the corruptions that are tested, in order."""
    return [path.stem for path in _paths(folder)]


def digest(folder: Path) -> str:
    """Of the names and contents of a folder of corruptions."""
    paths = _paths(folder)

    def chunks() -> Iterator[bytes]:
        for path in paths:
            yield path.stem.encode()
            yield from file_chunks(path)

    stamps = [[path.name, *stamp(path)] for path in paths]
    return remembered(folder / ".fingerprint.json", stamps, lambda: content_fingerprint(chunks()))


def read(folder: Path, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """{name: uint8 (5, N, H, W, 3)} of a folder in the layout of CIFAR-10-C, made of test images (N, H, W, 3) of
    these labels.

    Arrays are mapped, not loaded. Raises UserError for other shapes or labels.
    """
    found = {}
    logger.info(f"{folder}: {', '.join(names(folder))}")
    expected = (SEVERITIES * len(images), *images.shape[1:])
    for path in _paths(folder):
        array = _load(path)
        if array.dtype != np.uint8 or array.shape != expected:
            raise UserError(
                f"{path}: expected 8-bit images {list(expected)}, {SEVERITIES} times the test set, found {array.dtype} "
                f"{list(array.shape)}"
            )
        found[path.stem] = array.reshape(SEVERITIES, *images.shape)
    own = _load(folder / "labels.npy")
    # The published labels are repeated for each severity.
    sizes = len(labels), SEVERITIES * len(labels)
    if own.ndim != 1 or len(own) not in sizes or not (own[: len(labels)] == labels).all():
        raise UserError(f"{folder / 'labels.npy'}: not the labels of this test set")
    return found


def _load(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception:  # numpy and the tokenizer of its headers raise many kinds for damaged files
        raise UserError(f"{path}: damaged, not an array that numpy can map") from None
    if not isinstance(found, np.ndarray) or not found.ndim:
        raise UserError(f"{path}: expected one array, found an archive or a single value")
    return found
