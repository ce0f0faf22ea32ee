"""Results as JSON lines, one a finished run."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from irl.core import atomic_io, config, lock
from irl.core.errors import UserError
from irl.training import checkpoint
from irl.training.config import without_runtime_keys
from irl.training.modality import TRAINED_ON, Modality
from irl.training.registry import modality as modality_of
from irl.training.registry import saved_config


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


def _same_run(a: dict[str, Any], b: dict[str, Any], modality: Modality) -> bool:
    """The same run, and its evaluation in the same way."""
    return all(a[key] == b[key] for key in RUN) and modality.same_evaluation(a, b)


def matches(line: dict[str, Any], wanted: dict[str, Any], modality: Modality) -> bool:
    """Whether a line is the result of a wanted run (`irl plan` makes them): same corpus, method and configuration,
    trained on the same data, evaluated in the same way under at least the wanted conditions on the same test data."""
    same = _same_run(line, wanted, modality) and not other_data(line, wanted)
    if not same or not set(wanted["conditions"]) <= line["conditions"].keys():
        return False
    if "train_data" not in line:
        return True  # of an earlier version: its fingerprints of test sets are not those of this one
    return all(
        _equal(line["conditions"][name].get("data"), data) for name, data in wanted.get("test_data", {}).items() if data
    )


def other_data(trained: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which data of a trained model, or of its line of results, are not those that are wanted; empty if all are."""
    return next((key for key in TRAINED_ON if not _equal(trained.get(key), wanted.get(key))), "")


def _equal(old: str | None, new: str | None) -> bool:
    """What older results do not tell, and data that are not there to be looked at, are not compared."""
    return not old or not new or old == new


def check_wanted(path: Path, wanted: Path | None) -> None:
    """Raises UserError where the model of a checkpoint is none of the runs in a file of `irl plan`: it was trained with
    another configuration, or on other data than there are now."""
    if wanted is None:
        return
    state = checkpoint.load(path)
    digest = run_fingerprint(saved_config(state, path))
    runs = [run for run in read(wanted, RUN) if run["digest"] == digest]
    if not runs:
        raise UserError(f"{path}: was trained with another configuration than is asked for now; run stage 4 again")
    key = other_data(state, runs[0])
    if key:
        raise UserError(f"{path}: was trained with other {key} than there is now; run stage 4 again")


def append(path: Path, line: dict[str, Any], modality: Modality) -> None:
    """Append a line. An older line of the same run and evaluation is replaced; if it has the same weights, its
    conditions are kept beside the new ones."""
    with lock.folder(path.parent):  # two recipes may score at once
        rows = read(path)
        old = next((row for row in rows if _same_run(row, line, modality)), None)
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
