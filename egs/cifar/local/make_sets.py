#!/usr/bin/env python3
"""Decode a published set of images once: local/make_sets.py OUT FORMAT SOURCE [--train N] [--dev N]

FORMAT is cifar10 or cifar100 (SOURCE: the folder of the published archive), parquet (SOURCE/train*.parquet and
test*.parquet) or folder (SOURCE/{train,test}, perhaps dev, with a folder for each class). Writes
OUT/{train,dev,test}.npz; dev is the last --dev training images, unless there is a dev folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from irl.core.errors import UserError, run_command
from irl.core.rng import Keys
from irl.data.images import ARCHIVES, Images, from_folder, from_parquet, from_torchvision, split, write

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def parquet(source: Path, part: str, classes: list[str]) -> Images:
    paths = sorted(source.glob(f"{part}*.parquet"))
    if not paths:
        raise UserError(f"{source}: no {part}*.parquet there")
    sets = [from_parquet(path, classes) for path in paths]
    if len({s.images.shape[1:] for s in sets}) > 1:
        raise UserError(f"{source}: the images of {part}*.parquet are not of one size")
    images, labels = (np.concatenate([getattr(s, name) for s in sets]) for name in ("images", "labels"))
    return Images(images, labels, np.arange(len(labels)), classes)


def shuffled(images: Images) -> Images:
    """Class folders are read class by class; an order that is always the same makes any part of it fair."""
    draws = Keys(torch.from_numpy(images.numbers), 1, "order of folders").uniform(1)[:, 0]
    return images.rows(torch.argsort(draws, stable=True).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode a published set of images.")
    parser.add_argument("out", type=Path)
    parser.add_argument("format", choices=(*ARCHIVES, "parquet", "folder"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--train", type=int, default=0, help="training images to take, 0 for all")
    parser.add_argument("--dev", type=int, default=5000, help="training images to set apart as dev")
    parser.add_argument("--classes", nargs="+", default=CIFAR10, help="of parquet, in the order of the labels")
    parser.add_argument("--download", action="store_true", help="fetch what is not there")
    args = parser.parse_args()
    dev = None
    if args.format == "folder":
        train = shuffled(from_folder(args.source / "train"))
        test = shuffled(from_folder(args.source / "test", train.classes))
        has_dev = (args.source / "dev").is_dir()
        dev = shuffled(from_folder(args.source / "dev", train.classes)) if has_dev else None
    elif args.format == "parquet":
        train, test = (parquet(args.source, part, args.classes) for part in ("train", "test"))
    else:
        train, test = (from_torchvision(args.format, args.source, part, args.download) for part in (True, False))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(f"{args.source}: training images are {list(train.images.shape[1:3])}, "
                        f"test images {list(test.images.shape[1:3])}")  # fmt: skip
    if dev is None:
        train, dev = split(train, args.dev, args.train)
    else:
        train, _ = split(train, 0, args.train)
    for name, images in (("train", train), ("dev", dev), ("test", test)):
        write(args.out / f"{name}.npz", images)
        print(f"{args.out / name}.npz: {len(images)} images, {len(images.classes)} classes")


if __name__ == "__main__":
    run_command(main)
