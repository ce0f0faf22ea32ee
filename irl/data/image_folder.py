"""Folders of images, one for each class: nothing in them is left out without a word."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from irl.core.errors import UserError
from irl.core.logging import logger

# Decoders of Pillow that may read an image; some of the others start programs, as that of EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")


def class_folders(path: Path) -> dict[str, list[Path]]:
    """The images of each class by its name, in order. Raises UserError for one that would be left out."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    inside = _visible(path)
    names = [p.name for p in inside if p.is_dir()]
    if not names:
        raise UserError(f"{path}: expected a folder for each class, found none")
    _left_out(path, "files in no folder of a class", [p for p in inside if not p.is_dir()])
    return {name: _images_of(path / name) for name in names}


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without what is hidden, such as .ipynb_checkpoints."""
    found = sorted(folder.iterdir())
    _left_out(folder, "hidden entries", [path for path in found if path.name.startswith(".")])
    return [path for path in found if not path.name.startswith(".")]


def _left_out(folder: Path, what: str, paths: list[Path]) -> None:
    if paths:
        logger.warning(f"{folder}: {len(paths)} {what} left out, such as {paths[0].name}")


def _images_of(folder: Path) -> list[Path]:
    """The images of a class. Raises UserError for one that would be missing from it."""
    found, others = [], []
    for path in _visible(folder):
        if path.suffix.lower() in SUFFIXES:
            found.append(path)
        elif path.is_dir():
            raise UserError(f"{path}: a folder in the folder of a class; expected images, {' '.join(SUFFIXES)}")
        elif (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
            raise UserError(f"{path}: an image of a form that is not read; expected {' '.join(SUFFIXES)}")
        else:
            others.append(path)
    if not found:
        raise UserError(f"{folder}: a class without an image; expected {' '.join(SUFFIXES)}")
    _left_out(folder, "files that are no images", others)
    return found
