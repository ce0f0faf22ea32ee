"""Rates of the same runs in float32 and in bfloat16: what the speed of precision.py costs.

    python tools/bench/accuracy.py

Of every run in bfloat16 in egs/RECIPE/results/NAME-bf16.jsonl, and of the run that differs in train.precision alone,
from the same file or else from NAME.jsonl: means and standard deviations over seeds, and the paired test over the
examples of the test set.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Iterator

from irl.core.errors import UserError, run_command
from irl.reporting import results
from irl.reporting.markdown import shown_p
from irl.reporting.table import Table
from irl.reporting.table_config import TableConfig, read_table_config
from irl.training.registry import modality, saved_config

EGS = Path(__file__).parents[2] / "egs"
END = "-bf16"
FLOAT32, BF16 = "32-true", "bf16-mixed"


def in_float32(line: dict[str, Any], path: Path) -> str:
    """The digest of a run, had it been in float32."""
    content = copy.deepcopy(line["config"])
    content["train"]["precision"] = FLOAT32
    return results.run_fingerprint(saved_config({"config": content}, path))


def pairs(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The lines of each method in both precisions, called by them."""
    own = results.read(path, results.SHOWN)
    halves = [line for line in own if line["config"]["train"]["precision"] == BF16]
    others = own + results.read(path.with_stem(path.stem.removesuffix(END)), results.SHOWN)
    for method in dict.fromkeys(line["method"] for line in halves):
        found = []
        for half in (line for line in halves if line["method"] == method):
            full = next((line for line in others if line["digest"] == in_float32(half, path)), None)
            if full is None:
                raise UserError(f"{path}: {method}, seed {half['seed']}: found no run of it in float32")
            found += [{**full, "method": FLOAT32}, {**half, "method": BF16}]
        yield [{**line, "label": method} for line in found]


def rows(recipe: Path, name: str, lines: list[dict[str, Any]]) -> Iterator[str]:
    """Of the first column of a table, clean inputs, and of the last, the mean over noisy conditions or one of them."""
    table = Table(lines, modality(lines[0]["config"]["task"], name), TableConfig())
    label = read_table_config(recipe / "conf/table.yaml").label(lines[0]["label"])
    for column in (table.columns()[0], table.columns()[-1]):
        cells = [f"{name}, {label}", str(len(table.seeds[BF16])), table.heading(column)]
        for precision in (FLOAT32, BF16):
            spread = table.spread(precision, column)
            cells.append(f"{table.rate(precision, column):.2f}" + ("" if spread is None else f" ± {spread:.2f}"))
        test = table.test(BF16, FLOAT32, column)
        cells.append(f"{test['difference']:+.2f} ({test['low']:+.2f} to {test['high']:+.2f}), {shown_p(test['p'])}")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    print("| | seeds | | float32 | bf16 | difference |\n|---|---|---|---|---|---|")
    for path in sorted(EGS.glob(f"*/results/*{END}.jsonl")):
        recipe = path.parents[1]
        for lines in pairs(path):
            print(*rows(recipe, f"{recipe.name}, {path.stem.removesuffix(END)}", lines), sep="\n")


if __name__ == "__main__":
    run_command(main)
