"""Results as JSON lines, one a finished run."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from irl.core import atomic_io, config
from irl.core.errors import UserError
from irl.training.config import without_runtime_keys

# The banks of noises and of rooms that test sets were made with, where none were given.
GENERATED = ["generated", "generated"]


def run_fingerprint(settings: Any) -> str:
    """Tells runs apart by all settings that touch the weights, the seed included. Those at their defaults do not
    enter, so that a setting that is new in the package leaves the runs made before it as they are.
    """
    content = without_runtime_keys(config.changes(settings))
    noise = content.get("noise", {})
    if "rir" not in noise.get("kinds", ()):
        noise = {key: value for key, value in noise.items() if key not in ("rirs", "rirs_part")}
    return config.digest({**content, "noise": noise})


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file, none if there is no such file."""
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not a JSON line: {error}") from None
    return lines


def matches(line: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a line is the result of a wanted run: same corpus, method, configuration and decoding, and no condition
    less than those wanted (`irl plan` makes wanted runs)."""
    same = all(line[key] == wanted[key] for key in ("corpus", "method", "digest"))
    same = same and decoding(line["decode"]) == decoding(wanted["decode"])
    same = same and line.get("banks", GENERATED) == wanted.get("banks", GENERATED)
    if "train_data" in line and wanted.get("train_data"):
        same = same and line["train_data"] == wanted["train_data"]
    return same and set(wanted["conditions"]) <= line["conditions"].keys()


def decoding(options: dict[str, Any], tuned: bool = True) -> dict[str, Any]:
    """What makes two ways of decoding the same: all options that touch the best hypotheses, or, where they were tuned
    (unless what was found shall count), what they were tuned on."""
    if tuned and options.get("tuned"):
        return {key: options.get(key) for key in ("search", "beam", "lm", "tuned")}
    return {key: value for key, value in options.items() if key not in ("nbest", "pre_beam_ratio")}


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line; a line of the same run (digest) and decoding is replaced, as it was made again, or, if it has the
    same weights, completed."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        made = [decoding(row["decode"]), row.get("banks", GENERATED)]
        return row["corpus"], row["method"], row["digest"], json.dumps(made, sort_keys=True)

    rows = read(path)
    old = next((row for row in rows if key(row) == key(line)), None)
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
    """What was packed, or a plain list, as float64 (N,)."""
    if isinstance(packed, str):
        return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u2").astype(np.float64)
    return np.asarray(packed, np.float64)
