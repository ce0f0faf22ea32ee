"""Sets of images published as parquet files."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from irl.core.errors import UserError
from irl.core.logging import progress
from irl.data.images import Images, check, decode, stack

# Columns of labels, the likeliest first.
LABELS = ("label", "fine_label")


def whole_set(paths: Iterable[Path]) -> list[Path]:
    """Parquet files in the order of their names. Raises UserError where NAME-00000-of-00003 has no NAME-00001-of-00003
    beside it."""
    found = sorted(paths)
    for path in found:
        for before, part, of, count in re.findall(r"(.*-)(\d+)(-of-)(\d+)", path.stem):
            for number in range(int(count)):
                name = f"{before}{number:0{len(part)}}{of}{count}"
                if not any(other.stem.startswith(name) for other in found):
                    raise UserError(f"{path.parent}: {name} is missing; {path.name} is one of {int(count)} parts")
    return found


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of pyarrow as UserErrors that name the file."""
    import pyarrow

    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from None


def label_column(path: Path, column: str = "") -> tuple[str, list[str]]:
    """The column of labels of a parquet file, by default the first of LABELS, and the names of its classes, which
    published data sets keep in the schema; none where they are not there."""
    import pyarrow.parquet

    with _named(path):
        schema = pyarrow.parquet.read_schema(path)
    column = column or next((name for name in LABELS if name in schema.names), LABELS[0])
    for text in (schema.metadata or {}).values():
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            return column, [str(name) for name in json.loads(text)["info"]["features"][column]["names"]]
    return column, []


def _rows(path: Path, file: Any, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """The cells of these columns, some thousand rows in memory at a time."""
    batches = file.iter_batches(1024, columns=columns)
    while True:
        with _named(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield from zip(*(batch.column(name).to_pylist() for name in columns))


def from_parquet(path: Path, classes: Sequence[str], column: str = LABELS[0]) -> Images:
    """The layout of data sets published as parquet: columns img (or image) {bytes, path} and one of labels.

    path: a file, or a folder of which all parts are read in order of their names.
    """
    import pyarrow.parquet

    parts = whole_set(path.glob("*.parquet")) if path.is_dir() else [path]
    labels: list[int] = []

    def decoded() -> Iterator[tuple[str, np.ndarray]]:
        for part in parts:
            with _named(part):
                file = pyarrow.parquet.ParquetFile(part, pre_buffer=False, buffer_size=1 << 20)
            names, total = file.schema_arrow.names, file.metadata.num_rows
            image = next((name for name in ("img", "image") if name in names), None)
            if image is None or column not in names:
                raise UserError(f"{part}: expected columns img and {column}, found {', '.join(names)}")
            rows = _rows(part, file, [image, column])
            for row, (cell, label) in enumerate(progress(rows, part.name, total=total, unit="image")):
                where = f"{part}: row {row}"
                content = cell.get("bytes") if isinstance(cell, dict) else None
                if not isinstance(content, bytes):
                    raise UserError(f"{where}: expected {image}.bytes, found none")
                if not isinstance(label, int) or not 0 <= label < len(classes):
                    raise UserError(
                        f"{where}: {column} {label}, expected 0 to {len(classes) - 1}; --classes names other classes"
                    )
                labels.append(label)
                yield where, decode(content, where)

    if not parts:
        raise UserError(f"{path}: no .parquet file in this folder")
    images = stack(decoded())
    return check(Images(images, np.array(labels, np.int64), np.arange(len(labels)), list(classes)), str(path))
