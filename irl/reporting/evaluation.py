"""From the evaluation of a finished run to its line of results."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence

from irl.core.errors import UserError
from irl.core.fingerprint import file_fingerprint
from irl.core.text_files import read_log
from irl.reporting import results
from irl.training import checkpoint
from irl.training.modality import TRAINED_ON, Evaluation
from irl.training.registry import saved_config

# The name of a condition, the fingerprint of its product, and its counts.
Condition = tuple[str, Mapping[str, Any], dict[str, Any]]


def check_data(path: Path, made: Mapping[str, Any], data: str) -> None:
    """Raises UserError where an evaluation was made on other data than there are now; empty data are not compared."""
    if data and made["data"] != data:
        raise UserError(f"{path}: was evaluated on other data than there are now; run stage 5 again")


def read_counts(folder: Path, test_data: Mapping[str, str], also: Sequence[str] = ()) -> Iterator[Condition]:
    """Counts by example from FOLDER/NAME.json, as `write_product` left them, for each name of a condition.
    test_data: the fingerprints of the data that there are now. also: other keys to take where they are there."""
    for name, data in test_data.items():
        path = folder / f"{name}.json"
        product = evaluated(path, ("errors", "reference"))
        made = product["fingerprint"]
        check_data(path, made, data)
        others = {key: product[key] for key in also if key in product}
        yield name, made, {
            "reference": product["reference"],
            "errors": product["errors"],
            "data": made["data"],
            **others,
        }


def evaluated(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """The product at `path`, with these keys. Raises UserError where it is missing or damaged."""
    try:
        product = json.loads(path.read_text(encoding="utf-8"))
        made = product["fingerprint"]
        _ = [made[key] for key in ("weights", "options", "data")], [product[key] for key in keys]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged, or of an earlier version
        raise UserError(f"{path}: not evaluated; run stage 5 first") from None
    return dict(product)


def collect(run: Path, conditions: Iterable[Condition], **fields: Any) -> Evaluation:
    """The evaluation of a run under all conditions. Raises UserError where they were made with different weights, or
    with other weights than the checkpoint holds now, or with different settings."""
    path = run / "checkpoint.pt"
    weights = file_fingerprint(path)
    settings: dict[str, Any] | None = None
    counts = {}
    for name, made, own in conditions:
        if made["weights"] != weights:
            raise UserError(f"{run}: {name}: made with other weights than {path}; run stage 5 again")
        if settings is not None and made["options"] != settings:
            raise UserError(f"{run}: {name}: made with other options than the sets before it; run stage 5 again")
        settings, counts[name] = made["options"], own
    return Evaluation(settings or {}, fields, weights, counts)


def last_evaluation(path: Path) -> dict[str, float]:
    """The last evaluation on dev in a metrics.jsonl, by name: losses, distances, norms, ranks."""
    lines = read_log(path)
    last: dict[str, float] = next((line for line in reversed(lines) if any(key.startswith("dev/") for key in line)), {})
    return {key.removeprefix("dev/"): round(value, 5) for key, value in last.items() if key.startswith("dev/")}


def run_line(run: Path, corpus: str, method: str, evaluation: Evaluation) -> dict[str, Any]:
    """One finished run as a line of results: its configuration, how it was made, counts by condition."""
    path = run / "checkpoint.pt"
    state = checkpoint.load(path)
    if state["step"] != state["config"]["train"]["updates"]:
        raise UserError(f"{run}: at update {state['step']} of {state['config']['train']['updates']}, not finished")
    return {
        "corpus": corpus,
        "method": method,
        "seed": state["config"]["seed"],
        "digest": results.run_fingerprint(saved_config(state, path)),
        "commit": state["commit"],
        "versions": state["versions"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "train_seconds": round(state["seconds"], 1),
        "updates": state["step"],
        "skipped": state["skipped"],
        "dev": last_evaluation(run / "metrics.jsonl"),
        "config": state["config"],
        **evaluation.fields,
        **{key: state[key] for key in ("device", *TRAINED_ON) if state.get(key)},
        "weights": evaluation.weights,
        "decode": evaluation.settings,
        "conditions": evaluation.conditions,
    }


def total_rate(condition: Mapping[str, Any]) -> float:
    """All errors of a condition over all that they are divided by."""
    return float(results.counts(condition["errors"]).sum() / results.counts(condition["reference"]).sum())
