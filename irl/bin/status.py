"""Show the state of training runs: irl status [EXP ...]

Every directory below EXP (default exp) with a metrics.jsonl is a run. Each run gets one line: epoch, update and total
number of updates, last loss, last dev loss or error, updates per second, time since the last change, time left at this
speed, and state. The state is "finished", "running" (the log is as recent as the run's pace predicts) or "stopped". The
same training command continues a stopped run.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.text_files import read_log

HEAD = ("run", "state", "epoch", "update", "loss", "dev", "updates/s", "changed", "left")
# A run counts as stopped if its log is older than LEAST seconds and PATIENCE times the time between two lines.
PATIENCE, LEAST = 4, 60.0
# The first of these metrics that a run has is shown.
HEADLINES = ("dev/cer/clean", "dev/error/clean", "dev/loss/clean")


class Line(NamedTuple):
    """A line of metrics.jsonl: update, seconds of training until then, and the rest."""

    step: int
    seconds: float
    values: dict[str, Any]


def lines_of(path: Path) -> list[Line]:
    """All complete lines. Updates that a resumed run repeated count once."""
    found: list[Line] = []
    for values in read_log(path):
        try:
            line = Line(int(values["step"]), float(values["seconds"]), values)
        except (ValueError, KeyError, OverflowError):
            continue
        while found and found[-1].step > line.step:
            found.pop()
        found.append(line)
    return found


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} d"
    )


def pace(lines: list[Line]) -> tuple[float, float]:
    """Updates per second and seconds between lines, of the last few lines."""
    recent = lines[-6:]
    seconds, steps = recent[-1].seconds - recent[0].seconds, recent[-1].step - recent[0].step
    if seconds <= 0 or steps <= 0:
        first = lines[-1]
        return (first.step / first.seconds if first.seconds > 0 else 0.0), first.seconds
    return steps / seconds, seconds / (len(recent) - 1)


def row(run: Path, now: float) -> tuple[str, ...]:
    """The cells of a run. Raises UserError if its configuration cannot be read."""
    path = run / "metrics.jsonl"
    lines = lines_of(path)
    age = now - path.stat().st_mtime
    try:
        updates = int(json.loads((run / "config.json").read_text())["train"]["updates"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run}/config.json: cannot be read; the run's next start writes it") from None
    if not lines:
        return (str(run), "starting", "", f"0 / {updates}", "", "", "", f"{duration(age)} ago", "")
    last = lines[-1]
    speed, between = pace(lines)
    state = "running" if age < max(PATIENCE * between, LEAST) else "stopped"
    saved = run / "checkpoint.pt"
    # The last thing that a run does is to save.
    if last.step >= updates and saved.exists() and saved.stat().st_mtime >= path.stat().st_mtime:
        state = "finished"
    loss = next((line.values["total"] for line in reversed(lines) if "total" in line.values), None)
    shown = (line.values.get(name) for line in reversed(lines) for name in HEADLINES)
    dev = next((value for value in shown if value is not None), None)
    left = duration((updates - last.step) / speed) if state == "running" and speed else ""
    return (
        str(run), state, str(last.values.get("epoch", "")), f"{last.step} / {updates}",
        "" if loss is None else f"{loss:.4g}", "" if dev is None else f"{dev:.4g}",
        f"{speed:.3g}", f"{duration(age)} ago", left,
    )  # fmt: skip


def main() -> None:
    parser = Parser(prog="irl status", description="Show the state of training runs.")
    parser.add_argument("exp", type=Path, nargs="*", default=[Path("exp")])
    args = parser.parse_args()
    runs = []
    for folder in args.exp:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such directory")
        # EXP/old.N are runs that were moved aside.
        found = (path.parent for path in folder.rglob("metrics.jsonl"))
        runs += sorted(run for run in found if not run.name.startswith("old."))
    if not runs:
        raise UserError(f"{', '.join(map(str, args.exp))}: no training run below, none has a metrics.jsonl")
    rows: list[tuple[str, ...]] = [HEAD]
    now = time.time()
    for run in runs:
        try:
            rows.append(row(run, now))
        except UserError as error:
            rows.append((str(run), str(error)))
    widths = [max(len(cells[i]) for cells in rows if len(cells) == len(HEAD)) for i in range(len(HEAD))]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


if __name__ == "__main__":
    run_command(main)
