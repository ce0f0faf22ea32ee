#!/usr/bin/env python3
"""Decode a published set of images once: local/make_sets.py OUT FORMAT SOURCE [--train-images N] [--dev-images N]

FORMAT is cifar10 or cifar100 (SOURCE: the folder of the published archive), parquet (SOURCE/train*.parquet and
test*.parquet) or folder (SOURCE/{train,test}, perhaps dev, with a folder for each class). Writes
OUT/{train,dev,test}.npz; dev is the last --dev-images training images, unless there is a dev folder. Where these lack
a class, as in a set that is sorted by class, dev is drawn from all classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from irl.core.arguments import Parser, natural
from irl.core.errors import UserError, run_command
from irl.core.rng import Keys
from irl.data.image_parquet import from_parquet, label_column, whole_set
from irl.data.images import ARCHIVES, Images, from_folder, from_torchvision, split, write

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def parquet(source: Path, part: str, classes: list[str], column: str) -> Images:
    """classes, column: names of the classes and of the column of labels; empty: the files tell."""
    paths = whole_set(source.glob(f"{part}*.parquet"))
    if not paths:
        raise UserError(f"{source}: no {part}*.parquet there")
    column, names = label_column(paths[0], column)
    classes = classes or names or (CIFAR10 if column == "label" else [str(i) for i in range(100)])
    sets = [from_parquet(path, classes, column) for path in paths]
    if len({s.images.shape[1:] for s in sets}) > 1:
        raise UserError(f"{source}: the images of {part}*.parquet are not of one size")
    images, labels = (np.concatenate([getattr(s, name) for s in sets]) for name in ("images", "labels"))
    return Images(images, labels, np.arange(len(labels)), classes)


def draws_of(images: Images, stream: str) -> torch.Tensor:
    return Keys(torch.from_numpy(images.numbers), 1, stream).uniform(1)[:, 0]


def shuffled(images: Images) -> Images:
    """Class folders are read class by class; an order that is always the same makes any part of it fair."""
    return images.rows(torch.argsort(draws_of(images, "order of folders"), stable=True).numpy())


def dev_size(train: Images, archive: bool) -> int:
    """5,000 as is usual with CIFAR; of other sets no more than a tenth, but one of each class."""
    return 5000 if archive else min(5000, max(len(train) // 10, len(train.classes)))


def main() -> None:
    parser = Parser(description="Decode a published set of images.")
    parser.add_argument("out", type=Path)
    parser.add_argument("format", choices=(*ARCHIVES, "parquet", "folder"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--train-images", type=natural, default=0, help="training images to take, 0 for all")
    parser.add_argument(
        "--dev-images",
        type=natural,
        help="training images to set apart as dev; default: 5000, at most a tenth of own sets",
    )
    parser.add_argument(
        "--classes", nargs="+", default=[], help="of parquet, in the order of the labels; default: those that it names"
    )
    parser.add_argument("--label-column", default="", help="of parquet; default: label or fine_label")
    parser.add_argument("--download", action="store_true", help="fetch what is not there")
    args = parser.parse_args()
    dev = None
    if args.format == "folder":
        train = shuffled(from_folder(args.source / "train"))
        test = shuffled(from_folder(args.source / "test", train.classes))
        has_dev = (args.source / "dev").is_dir()
        dev = shuffled(from_folder(args.source / "dev", train.classes)) if has_dev else None
    elif args.format == "parquet":
        train = parquet(args.source, "train", args.classes, args.label_column)
        test = parquet(args.source, "test", train.classes, args.label_column)
    else:
        train, test = (from_torchvision(args.format, args.source, part, args.download) for part in (True, False))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(f"{args.source}: training images are {list(train.images.shape[1:3])}, "
                        f"test images {list(test.images.shape[1:3])}")  # fmt: skip
    if dev is None:
        size = dev_size(train, args.format in ARCHIVES) if args.dev_images is None else args.dev_images
        train, dev = split(train, size, args.train_images, draws_of(train, "order of classes").numpy())
    else:
        train, _ = split(train, 0, args.train_images)
    for name, images in (("train", train), ("dev", dev), ("test", test)):
        write(args.out / f"{name}.npz", images)
        print(f"{args.out / name}.npz: {len(images)} images, {len(images.classes)} classes")


if __name__ == "__main__":
    run_command(main)
