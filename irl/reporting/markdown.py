"""A table as Markdown: rates, paired tests, activations, provenance; and its place in Markdown files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from irl.reporting.statistics import holding
from irl.reporting.table import Table


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return [line(head), "|---" * len(head) + "|", *map(line, rows)]


def rates(table: Table) -> str:
    """The rates with intervals and spreads, the best of a column in bold."""
    columns = table.columns()
    best = {column: table.best(column) for column in columns}

    def cell(method: str, column: str) -> str:
        rate, interval = f"{table.rate(method, column):.1f}", table.interval(method, column)
        value = f"**{rate}**" if method == best[column] else rate
        value += f" ({interval[0]:.1f}-{interval[1]:.1f})" if interval else ""
        spread = table.spread(method, column)
        return value + (f" ±{spread:.1f}" if spread is not None else "")

    several = any(len(seeds) > 1 for seeds in table.seeds.values())
    head = f"{table.metric.title.capitalize()}, with 95 % bootstrap intervals over {table.metric.counted}"
    if any(table.tested(column) < 2 for column in columns):
        head += ", of which a single one has none"
    head += " and ± the standard deviation over seeds." if several else "."
    rows = [[table.label(method), *(cell(method, column) for column in columns)] for method in table.methods]
    return "\n".join([head, "", *grid(["method", *map(table.heading, columns)], rows)])


def pairs_to_test(table: Table) -> list[tuple[str, str]]:
    """Pairs of methods to test: those of the configuration, unlisted methods against `compare_with`, then the pairs of
    the configuration within each variant, and each variant against its plain form."""
    config, plain = table.config, table.plain
    variants = dict.fromkeys(m.removeprefix(plain[m]) for m in table.methods if m != plain[m])
    pairs = [(a, b) for a, b in config.tests]
    pairs += [(m, config.compare_with) for m in table.methods if m == plain[m] and m not in config.methods]
    pairs += [(a + variant, b + variant) for variant in variants for a, b in config.tests]
    pairs += [(m, plain[m]) for m in table.methods if m != plain[m]]
    return [(a, b) for a, b in pairs if a != b and a in table.methods and b in table.methods]


def shown_p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def tests(table: Table) -> list[str]:
    """The section of paired tests."""
    pairs = pairs_to_test(table)
    if not pairs:
        return []
    columns = table.columns()
    shown = [c for c in table.metric.tested or columns if c in columns]

    found = {(a, b, column): table.test(a, b, column) for a, b in pairs for column in shown}
    holds, claims = holding(found)

    def cell(a: str, b: str, column: str) -> str:
        t = found[a, b, column]
        if "p" not in t:
            return f"{t['difference']:+.1f}"
        mark = "\\*" if (a, b, column) in holds else ""
        return f"{t['difference']:+.1f} ({t['low']:+.1f} to {t['high']:+.1f}), {shown_p(t['p'])}{mark}"

    points = "percentage points" if table.metric.unit else table.metric.name.partition(" ")[0]
    head = f"Paired bootstrap tests: difference in {points}, its 95 % interval, two-sided p."
    if claims:
        head += f" \\*: below 0.05 after Holm's correction for these {claims} comparisons."
    rows = [[f"{table.label(a)} - {table.label(b)}", *(cell(a, b, column) for column in shown)] for a, b in pairs]
    return ["", head, "", *grid(["difference", *map(table.heading, shown)], rows)]


def activations(table: Table) -> list[str]:
    """The section on hidden states at the last evaluation on dev, averaged over layers and seeds."""
    measures = {
        "cosine": "cosine distance",
        "l2_relative": "L2 / norm of clean",
        "norm": "norm",
        "rank": "effective rank",
    }
    rows = []
    for method in table.trained:
        lines = [line.get("dev", {}) for line in table.lines if line["method"] == method]
        cells = []
        for measure in measures:
            values = [v for line in lines for key, v in line.items() if key.startswith(f"{measure}/")]
            cells.append(f"{np.mean(values):.3g}" if values else "")
        if cells[:2] == ["0", "0"]:  # views without noise are equal, which says nothing of the method
            cells[:2] = ["", ""]
        if any(cells):
            rows.append([table.label(method), *cells])
    if not rows:
        return []
    head = "Activations of the dev set, clean and with the training's kind of noise, averaged over the layers:"
    return ["", head, "", *grid(["method", *measures.values()], rows)]


def provenance(table: Table) -> list[str]:
    """The section on how the rates were made: examples, updates, evaluation, seeds, times, versions, commits."""
    own, metric = table.config.own_updates, table.metric
    first = next((line for line in table.lines if table.plain[line["method"]] not in own), table.lines[0])
    updates = {table.label(line["method"]): line["updates"] for line in table.lines}
    others = [f'"{label}" ({count})' for label, count in updates.items() if count != first["updates"]]
    but = f" but {', '.join(others)}" if others else ""
    sizes = {c: int((table.reference[c] > 0).sum()) for c in table.conditions}
    most = max(sizes.values())
    fewer = "".join(f", {n} under {table.heading(c)}" for c, n in sizes.items() if n < most)
    # One sentence for each variant.
    settings = {line.get("variant", ""): table.modality.comparable(line["decode"]) for line in table.lines}
    return [
        "",
        f"{most} {metric.counted} a condition{fewer}; {first['updates']} updates, of them "
        f"{first['config']['train']['clean_updates']} clean, for every method{but}.",
        *map(table.modality.describe, settings.values()),
        "Seeds: " + ", ".join(f"{table.label(m)} {' '.join(map(str, s))}" for m, s in table.seeds.items()) + ".",
        "Training time a run: " + ", ".join(training_times(table)) + ".",
        "Versions: "
        + "; ".join(dict.fromkeys(", ".join(f"{k} {v}" for k, v in line["versions"].items()) for line in table.lines))
        + f"; commit {', '.join(dict.fromkeys(line['commit'] for line in table.lines))}.",
    ]


def training_times(table: Table) -> list[str]:
    """The mean time of a run, by method, device and precision."""
    found = []
    for method in table.trained:
        times: dict[str, list[float]] = {}
        for line in table.lines:
            if line["method"] == method:
                times.setdefault(_device(line), []).append(line["train_seconds"])
        for device, seconds in times.items():
            on = "" if device == "cpu" else f" ({device})"
            found.append(f"{table.label(method)} {np.mean(seconds):.0f} s{on}")
    return found


def _device(line: Mapping[str, Any]) -> str:
    """The device and the precision of a run; lines of earlier versions have it in the configuration alone."""
    device, precision = line.get("device", "cpu"), line["config"]["train"].get("precision", "32-true")
    return device if precision in ("32-true", "auto") or precision in device else f"{device}, {precision}"


def page(table: Table, note: str) -> str:
    """All sections below a note."""
    head = [note, ""] if note else []
    sections = [tests(table), table.modality.table_sections(table), activations(table), provenance(table)]
    return "\n".join([*head, rates(table), *(line for section in sections for line in section)]) + "\n"


def insert(path: Path, name: str, table: Table, note: str) -> None:
    """Renew the text of a Markdown file between <!-- table NAME --> and <!-- end -->, where the rates go, and between
    <!-- report NAME --> and <!-- end -->, where the whole page goes."""
    text = path.read_text(encoding="utf-8")
    for kind, content in (("table", rates(table)), ("report", page(table, note).strip())):
        mark = f"<!-- {kind} {name} -->"
        pattern = re.compile(re.escape(mark) + ".*?<!-- end -->", re.DOTALL)
        text = pattern.sub(lambda _: f"{mark}\n\n{content}\n\n<!-- end -->", text)
    path.write_text(text, encoding="utf-8")
