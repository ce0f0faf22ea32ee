"""Results as JSON lines, one a finished run."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from irl.core import atomic_io, config
from irl.core.errors import UserError
from irl.training.config import without_runtime_keys
from irl.training.modality import Modality
from irl.training.registry import modality as modality_of


def run_fingerprint(settings: Any) -> str:
    """Tells runs apart by all settings that touch the weights, the seed included. Settings at their defaults do not
    enter, so that a setting that is new in the package leaves the runs made before it as they are.
    """
    content = modality_of(settings.task, "settings").fingerprint(without_runtime_keys(config.changes(settings)))
    # Committed results were hashed with a section "noise", changed or not.
    return config.digest({"noise": {}, **content})


# Keys by which a run is known, those of every line of results, and those that a table needs; with their types.
RUN = {"corpus": str, "method": str, "digest": str}
LINE = {**RUN, "decode": dict, "conditions": dict}
SHOWN = {**LINE, "seed": int, "config": dict, "updates": int, "commit": str, "versions": dict, "train_seconds": float}


def read(path: Path, keys: Mapping[str, type] = LINE) -> list[dict[str, Any]]:
    """The lines of a results file, none if there is no such file. Raises UserError for a line without these keys."""
    if not path.exists():
        return []
    lines = []
    for number, content in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}:{number}"
        try:
            line = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not a JSON line: {error}") from None
        for key, kind in keys.items():
            value = line.get(key) if isinstance(line, dict) else None
            if not isinstance(value, (int, float) if kind is float else kind):
                raise UserError(
                    f"{where}: not a line of results: expected a key {key!r} ({kind.__name__}); remove that line"
                )
        for name, condition in line["conditions"].items() if keys is SHOWN else ():
            _check_counts(condition, f"{where}: condition {name}")
        lines.append(line)
    return lines


def _check_counts(condition: Any, where: str) -> None:
    try:
        errors, reference = counts(condition["errors"]), counts(condition["reference"])
        right = errors.ndim == 1 and errors.shape == reference.shape and reference.sum() > 0 and "data" in condition
    except (ValueError, KeyError, TypeError, zlib.error):
        right = False
    if not right:
        raise UserError(f"{where}: expected counts of errors and reference of as many examples; remove that line")


def matches(line: dict[str, Any], wanted: dict[str, Any], modality: Modality) -> bool:
    """Whether a line is the result of a wanted run (`irl plan` makes them): same corpus, method and configuration,
    evaluated in the same way under at least the wanted conditions."""
    same = all(line[key] == wanted[key] for key in ("corpus", "method", "digest"))
    same = same and modality.same_evaluation(line, wanted)
    if line.get("train_data") and wanted.get("train_data"):
        same = same and line["train_data"] == wanted["train_data"]
    return same and set(wanted["conditions"]) <= line["conditions"].keys()


def append(path: Path, line: dict[str, Any], modality: Modality) -> None:
    """Append a line. An older line of the same run and evaluation is replaced; if it has the same weights, its
    conditions are kept beside the new ones."""

    def replaced(row: dict[str, Any]) -> bool:
        same = all(row[key] == line[key] for key in ("corpus", "method", "digest"))
        return same and modality.same_evaluation(row, line)

    rows = read(path)
    old = next((row for row in rows if replaced(row)), None)
    if old is not None and old.get("weights", "") == line.get("weights"):
        # The same model under further conditions.
        line = {**line, "conditions": {**old["conditions"], **line["conditions"]}}
    kept = [row for row in rows if row is not old]
    atomic_io.write(path, "".join(json.dumps(row) + "\n" for row in [*kept, line]))


def pack(counts: np.ndarray) -> str:
    """Counts (N,) of 0 to 65535, one an example, as text for a JSON line: little-endian uint16, deflated, base64."""
    if counts.min() < 0 or counts.max() > 0xFFFF:
        raise ValueError(f"counts must be in 0 to 65535, found {counts.min()} to {counts.max()}")
    return base64.b64encode(zlib.compress(counts.astype("<u2").tobytes(), 9)).decode()


def counts(packed: str | Sequence[float]) -> np.ndarray:
    """Packed counts, or a plain list, as float64 (N,)."""
    if isinstance(packed, str):
        return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u2").astype(np.float64)
    return np.asarray(packed, np.float64)
