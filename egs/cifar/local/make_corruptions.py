#!/usr/bin/env python3
"""Corrupt a test set: local/make_corruptions.py TEST.npz OUT

Gaussian noise, blur and JPEG at five severities, in the layout of CIFAR-10-C, for those who do not have it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from irl.core import atomic_io
from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.core.fingerprint import record_inputs
from irl.core.logging import progress
from irl.data.images import read
from irl.noise.corruptions import CORRUPTIONS, SEVERITIES


def save(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    atomic_io.write(path, buffer.getvalue())


def main() -> None:
    parser = Parser(description="Corrupt a test set.")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    images = read(args.data)
    for name, corrupt in CORRUPTIONS.items():
        levels = progress(range(1, SEVERITIES + 1), name, unit="severity")
        save(args.out / f"{name}.npy", np.concatenate([corrupt(images.images, s, images.numbers) for s in levels]))
    save(args.out / "labels.npy", images.labels)
    record_inputs(args.out, test_set=images.digest())
    print(f"corruptions: {args.out}/{{{','.join(CORRUPTIONS)}}}.npy")


if __name__ == "__main__":
    run_command(main)
