"""Sets of small labelled images, decoded, in one file; and readers of the forms in which such sets are published, other
than parquet."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Iterable, Sequence

import numpy as np

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.fingerprint import content_fingerprint
from irl.core.logging import logger, progress
from irl.data.image_folder import FORMATS, class_folders

# Images that are hashed at once.
PART = 1000
# Pixels of an image, before it is decoded: a header may promise more than memory holds.
LARGEST = 2**24


@dataclass(frozen=True, eq=False)
class Images:
    """images: uint8 (N, H, W, 3); labels: int64 (N,); numbers: int64 (N,), by which draws know an image, kept when a
    set is split; classes: names in the order of the labels."""

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Any) -> Images:
        return replace(self, images=self.images[index], labels=self.labels[index], numbers=self.numbers[index])

    def digest(self) -> str:
        arrays = (self.images, self.labels, self.numbers)
        parts = (part for array in arrays for part in np.split(array, range(PART, len(array), PART)))
        return content_fingerprint(np.ascontiguousarray(part).tobytes() for part in parts)


def write(path: Path, images: Images) -> None:
    """As .npz, whole or not at all."""
    arrays = {"images": images.images, "labels": images.labels, "numbers": images.numbers}
    with atomic_io.replacing(path) as temporary, open(temporary, "xb") as file:
        np.savez(file, allow_pickle=False, classes=np.array(images.classes, dtype=str), **arrays)


def read(path: Path) -> Images:
    """What `write` wrote. Pixels are mapped, not loaded, so that a set may be larger than memory; whoever replaces the
    file renames another to its name, as `write` does. Raises UserError for a file that is missing, damaged or of
    another form."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise ValueError("a sum that is not right")
            pixels = _mapped(file, archive.getinfo("images.npy"))
            others = [archive.open(f"{name}.npy") for name in ("labels", "numbers", "classes")]
            labels, numbers, classes = (np.lib.format.read_array(other, allow_pickle=False) for other in others)
    except FileNotFoundError:
        raise UserError(f"{path}: no such set of images; run stage 0 first") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # zipfile and numpy raise many kinds for damaged files
        raise UserError(f"{path}: damaged, or not a set of images written by this package") from None
    return check(Images(pixels, labels, numbers, [str(name) for name in classes]), str(path))


def _mapped(file: BinaryIO, member: zipfile.ZipInfo) -> np.ndarray:
    """An array that lies in an archive as it is, mapped; what is written to it stays in memory."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed")
    # The header before the member's content: 30 bytes, the last four of them the lengths of its name and of extras.
    file.seek(member.header_offset + 26)
    begin = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    file.seek(begin)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another form")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    offset, count = file.tell(), math.prod(shape)
    if dtype.hasobject or fortran or offset + count * dtype.itemsize != begin + member.file_size:
        raise ValueError("an array of another size or form")
    # Writable, as torch wants arrays, but without room set aside for that: there may be less memory than pixels.
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
    content = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(content, dtype, count, offset).reshape(shape)


def check(images: Images, where: str) -> Images:
    """Raises UserError that names the first image that is wrong."""
    if images.images.ndim != 4 or images.images.shape[-1] != 3 or images.images.dtype != np.uint8:
        found = f"{images.images.dtype} {list(images.images.shape)}"
        raise UserError(f"{where}: expected 8-bit images of shape (N, H, W, 3), found {found}")
    if not len(images):
        raise UserError(f"{where}: no images")
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(images.classes)))
    if len(wrong):
        label = images.labels[wrong[0]]
        raise UserError(f"{where}: image {wrong[0]}: label {label}, expected 0 to {len(images.classes) - 1}")
    return images


def decode(content: bytes | Path, where: str) -> np.ndarray:
    """An image file's bytes, or its path -> uint8 (H, W, 3), turned as its EXIF orientation says."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(content, Path) and not content.is_file():
        raise UserError(f"{where}: {'no such file' if not content.exists() else 'no plain file'}, expected an image")
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise UserError(f"{where}: {image.width}x{image.height} pixels, expected a small image")
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{where}: an image of more than 8 bits, mode {image.mode}")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{where}: not an image of a form that is read: {', '.join(FORMATS)}") from None
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged images
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: not an image that can be read{': ' if reason else ''}{reason}") from None


def stack(decoded: Iterable[tuple[str, np.ndarray]]) -> np.ndarray:
    """uint8 (N, H, W, 3) of images with their names. Raises UserError where their sizes differ."""
    content, shape = bytearray(), (0, 0, 3)
    for where, image in decoded:
        if content and image.shape != shape:
            raise UserError(f"{where}: {image.shape[1]}x{image.shape[0]}, the images before it are "
                            f"{shape[1]}x{shape[0]}: all must have one size")  # fmt: skip
        shape = image.shape
        content += image.tobytes()
    return np.frombuffer(content, np.uint8).reshape(-1, *shape) if content else np.empty((0, *shape), np.uint8)


def from_folder(path: Path, classes: Sequence[str] | None = None) -> Images:
    """A folder of class folders; classes are their names in order, or those given, which must all be there."""
    folders = class_folders(path)
    names = list(folders)
    for name in set(names) ^ set(classes if classes is not None else names):
        raise UserError(f"{path / name}: {'is no class of the training set' if name in names else 'no such folder'}")
    found = [(label, p) for label, paths in enumerate(folders.values()) for p in paths]
    images = stack((str(p), decode(p, str(p))) for _, p in progress(found, str(path), unit="image"))
    labels = np.array([label for label, _ in found], np.int64)
    return check(Images(images, labels, np.arange(len(labels)), names), str(path))


# Of the archives in a form that holds pickles, which torchvision opens only after checking each against its sum.
ARCHIVES = {
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": ("CIFAR100", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
}


def from_torchvision(name: str, root: Path, train: bool, download: bool = False) -> Images:
    """cifar10 or cifar100 from `root`, which holds the published archive or what it unpacks to."""
    import torchvision

    class_name, archive, md5 = ARCHIVES[name]
    path = root / archive
    unpacked = root / getattr(torchvision.datasets, class_name).base_folder
    if path.exists():
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != md5:
            raise UserError(f"{path}: MD5 sum {found}, published is {md5}; remove it, or fetch it again")
    elif not unpacked.exists() and not download:
        raise UserError(f"{root}: neither {archive} nor {unpacked.name} is there; --download true fetches it")
    try:
        # With the archive there, "download" only unpacks it.
        data = getattr(torchvision.datasets, class_name)(str(root), train, download=download or path.exists())
    except (RuntimeError, OSError) as error:
        raise UserError(f"{root}: {str(error).splitlines()[0]}") from None
    labels = np.array(data.targets, np.int64)
    return check(Images(data.data, labels, np.arange(len(labels)), list(data.classes)), str(root))


def split(images: Images, dev: int, train: int = 0, draws: np.ndarray | None = None) -> tuple[Images, Images]:
    """(train, dev): the last `dev` images, and of those before them the first `train`, or all. Where one of the two
    would lack a class, as in a set that is sorted by class, they are drawn from all classes instead.

    draws: (N,), random, by which images are drawn.
    """
    if min(dev, train) < 0 or len(images) - dev < max(1, train):
        raise UserError(
            f"{len(images)} training images are too few for {train or 1} in training and {dev} in dev; give smaller "
            "--train-images and --dev-images"
        )
    end = len(images) - dev
    train_rows, dev_rows = slice(train or end), slice(end, None)
    classes = len(np.unique(images.labels))
    parts = [part for part in (images.labels[train_rows], images.labels[dev_rows]) if len(part) >= classes]
    if any(len(np.unique(part)) < classes for part in parts):
        logger.warning("the images are sorted by class: training and dev are drawn from all classes")
        order = _evenly(images.labels, np.zeros(len(images)) if draws is None else draws)
        return images.rows(order[train_rows]), images.rows(order[dev_rows])
    return images.rows(train_rows), images.rows(dev_rows)


def _evenly(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """An order of images in which every part has all classes in their shares, and each end has one of every class."""
    position = np.empty(len(labels))
    for name in np.unique(labels):
        own = np.flatnonzero(labels == name)
        own = own[np.argsort(draws[own], kind="stable")]
        position[own] = (np.arange(len(own)) + 0.5) / len(own)
        if len(own) > 1:
            position[own[[0, -1]]] = 0, 1
    return np.lexsort((draws, position))


def balanced(labels: np.ndarray, count: int, draws: np.ndarray) -> np.ndarray:
    """Which `count` images keep their labels: as many of each class, those with the smallest draws, in order.

    labels: int64 (N,); draws: (N,), random. Raises ValueError where a class has too few, or classes do not divide it.
    """
    names, sizes = np.unique(labels, return_counts=True)
    if count % len(names):
        raise ValueError(f"labels must be a multiple of the {len(names)} classes, got {count}")
    each = count // len(names)
    if each > sizes.min():
        raise ValueError(
            f"labels {count} asks for {each} of each class, but class {names[sizes.argmin()]} has {sizes.min()} images"
        )
    order = np.argsort(draws, kind="stable")
    chosen = [order[labels[order] == name][:each] for name in names]
    return np.sort(np.concatenate(chosen))
