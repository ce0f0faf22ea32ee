"""Sets of a few random images, and files of them."""

import io

import numpy as np
from PIL import Image

from irl.data.images import Images


def made(count, classes=3, size=8, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return Images(pixels, np.arange(count) % classes, np.arange(count), [f"c{i}" for i in range(classes)])


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path, cells, labels, column="img"):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({column: cells, "label": labels}), path)
    return path


def cells_of(data):
    return [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(data.images)]


def same(a, b):
    return (
        all((getattr(a, n) == getattr(b, n)).all() for n in ("images", "labels", "numbers")) and a.classes == b.classes
    )
