"""Results as JSON lines, one a finished run, and the statistics that are made of them."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from irl import config, files
from irl.errors import UserError
from irl.tasks.base import lasting

RESAMPLES = 2000
# The banks of noises and of rooms that test sets were made with, where none were given.
GENERATED = ["generated", "generated"]


def run_digest(settings: Any) -> str:
    """Tells runs apart by all settings that touch the weights, the seed included. Those at their defaults do not
    enter, so that a setting that is new in the package leaves the runs made before it as they are.
    """
    content = lasting(config.changes(settings))
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
    less than those wanted (`irl.missing` makes wanted runs)."""
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
    files.write(path, "".join(json.dumps(row) + "\n" for row in [*kept, line]))


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


def bootstrap(count: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each of `count` utterances is drawn in each resample, (resamples, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def interval(reference: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of sum(errors) / sum(reference), over utterances (Bisani and Ney 2004)."""
    weights = bootstrap(len(reference))
    rates = (weights @ np.asarray(errors, float)) / (weights @ np.asarray(reference, float))
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def paired_test(rates_a: np.ndarray, rates_b: np.ndarray, observed: float) -> dict[str, float]:
    """Difference a - b with its paired bootstrap interval and two-sided p-value.

    rates_a, rates_b: rates under the same resamples; observed: the difference of the rates themselves. p is twice the
    share of resamples on the other side of zero, at least 2 / (resamples + 1).
    """
    difference = rates_a - rates_b
    low, high = np.percentile(difference, [2.5, 97.5])
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (len(difference) + 1))
    return {"difference": observed, "low": float(low), "high": float(high), "p": float(p)}
