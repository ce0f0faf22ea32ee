"""Pictures of results: drawn for people, readable without colour, each written as PNG and SVG."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import Any, Mapping

import matplotlib
import numpy as np
from matplotlib import pyplot

from irl.reporting.statistics import holding
from irl.reporting.table import Table
from irl.reporting.table_config import TableConfig

matplotlib.use("Agg")
# Names inside an SVG come from its content, not from chance: it changes only with its content.
matplotlib.rcParams["svg.hashsalt"] = "irl"
# With fewer conditions on a scale bars say as much as a curve.
ENOUGH = 4
# Curves differ in marker and line style, not in colour alone.
MARKERS, LINES = "os^Dv*Px<>", ("-", "--", "-.", ":")
# With more methods bars cannot be told apart.
MOST_BARS = 5


def save_figure(fig: Any, path: Path) -> None:
    """Write path.png and path.svg, the latter without a date, so that it changes only with its content."""
    for suffix in ("png", "svg"):
        fig.savefig(path.with_suffix(f".{suffix}"), dpi=150, metadata={"Date": None} if suffix == "svg" else None)
    pyplot.close(fig)


def draw(table: Table, path: Path, title: str) -> None:
    """The figure that suits a table: bars, differences of many methods, or a panel for each condition. Where enough
    conditions lie on a scale, such as the level of a recording, path-scales has curves over it too."""
    if not table.metric.averaged:
        dots(table, path, title)
    elif len(table.methods) > MOST_BARS and table.config.compare_with in table.methods:
        forest(table, path, title)
    else:
        bars(table, path, title)
    places: dict[str, dict[float, str]] = {}
    for condition in table.conditions:
        if found := table.modality.scale(condition):
            places.setdefault(found[0], {})[found[1]] = condition
    if enough := {label: place for label, place in places.items() if len(place) >= ENOUGH}:
        scales(table, path.with_name(f"{path.name}-scales"), title, enough)


def scales(table: Table, path: Path, title: str, places: Mapping[str, Mapping[float, str]]) -> None:
    """A panel for each scale: rates of every method over it, with bands of their intervals. places: the condition at
    each place of a scale, by the label of the scale."""
    fig, grid = pyplot.subplots(
        1, len(places), figsize=(6.5 * len(places), 4.2), layout="constrained", sharey=True, squeeze=False
    )
    for axes, (label, place) in zip(grid[0], places.items()):
        x = sorted(place)
        styles = zip(itertools.cycle(MARKERS), itertools.cycle(LINES))
        for method, (marker, line) in zip(table.methods, styles):
            rates = [table.rate(method, place[value]) for value in x]
            bounds = [table.interval(method, place[value]) or (rate, rate) for value, rate in zip(x, rates)]
            axes.plot(x, rates, marker=marker, linestyle=line, label=table.label(method), markersize=5)
            low, high = zip(*bounds)
            axes.fill_between(x, low, high, alpha=0.15, linewidth=0)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].set_ylabel(table.metric.title)
    grid[0, 0].legend(fontsize=9, frameon=False)
    fig.suptitle(textwrap.fill(title, int(12 * fig.get_figwidth())), fontsize=10)
    save_figure(fig, path)


def bars(table: Table, path: Path, title: str) -> None:
    """Rates with intervals, grouped by condition. Writes path.png and path.svg."""
    columns = table.columns()
    styles = (("0.9", ""), ("0.75", "///"), ("0.55", "..."), ("0.1", ""), ("1.0", "xxx"))
    fig, axes = pyplot.subplots(figsize=(max(7.0, 1.35 * len(columns)), 4.2), layout="constrained")
    width = 0.8 / len(table.methods)
    for i, method in enumerate(table.methods):
        rates = np.array([table.rate(method, c) for c in columns])
        bounds = np.array([table.interval(method, c) or (np.nan, np.nan) for c in columns]).T
        x = np.arange(len(columns)) + (i - (len(table.methods) - 1) / 2) * width
        errors = np.abs(bounds - rates)
        shade, hatch = styles[i % len(styles)]
        axes.bar(x, rates, width, label=table.label(method), color=shade, hatch=hatch, edgecolor="black", linewidth=0.6)
        axes.errorbar(x, rates, yerr=errors, fmt="none", ecolor="tab:red", elinewidth=1.2, capsize=2)
    axes.set_xticks(np.arange(len(columns)), [textwrap.fill(table.heading(c), 15) for c in columns])
    axes.set_xlabel("condition of the test set")
    axes.set_ylabel(table.metric.title)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(ncols=len(table.methods), fontsize=9, frameon=False)
    save_figure(fig, path)


def forest(table: Table, path: Path, title: str) -> None:
    """For many methods: the difference of each to one of them, with its paired interval, from best to worst."""
    column, base = table.columns()[-1], table.config.compare_with
    others = [m for m in table.methods if m != base and table.plain[m] not in table.config.far_off]
    tests = {m: table.test(m, base, column) for m in others}
    order = sorted(others, key=lambda m: -tests[m]["difference"])
    fig, axes = pyplot.subplots(figsize=(7, 1.2 + 0.3 * len(order)), layout="constrained")
    for y, method in enumerate(order):
        t = tests[method]
        if "p" in t:
            axes.plot([t["low"], t["high"]], [y, y], color="black", linewidth=1.2)
        axes.plot(t["difference"], y, "o", color="black", markersize=5)
    axes.axvline(0, color="0.5", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(order)), [table.label(m) for m in order])
    axes.set_ylabel("method")
    unit = " (percentage points)" if table.metric.unit else ""
    axes.set_xlabel(f"difference to {table.label(base)} in {table.metric.name},\n{table.heading(column)}{unit}")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    save_figure(fig, path)


def differences(table: Table, path: Path, title: str) -> None:
    """A panel for each condition: every method's difference to one of them, with its paired interval. A dot is filled
    where the difference holds after Holm's correction for all of the figure."""
    base, columns = table.config.compare_with, table.columns()
    others = [m for m in reversed(table.methods) if m != base and table.plain[m] not in table.config.far_off]
    tests = {(m, c): table.test(m, base, c) for m in others for c in columns}
    holds, claims = holding(tests)
    fig, axes = pyplot.subplots(
        1, len(columns), figsize=(2 + 1.5 * len(columns), 1.5 + 0.32 * len(others)), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for ax, column in zip(axes[0], columns):
        ax.axvline(0, color="0.5", linestyle="--", linewidth=1)
        for y, method in enumerate(others):
            test = tests[method, column]
            if "p" in test:
                ax.plot([test["low"], test["high"]], [y, y], color="black", linewidth=1.2)
            fill = "black" if (method, column) in holds else "white"
            ax.plot(test["difference"], y, "o", markersize=6, markerfacecolor=fill, markeredgecolor="black")
        ax.set_title(textwrap.fill(table.heading(column), 14), fontsize=10)
        ax.grid(axis="x", alpha=0.3)
        ax.margins(x=0.15, y=0.15)
    axes[0, 0].set_yticks(range(len(others)), [table.label(m) for m in others])
    axes[0, 0].set_ylabel("method")
    unit = "percentage points" if table.metric.unit else "points"
    letters = int(14 * fig.get_figwidth())  # of this size, side by side
    label = (
        f"difference to {table.label(base)} in {table.metric.name} ({unit}), 95 % interval; left is better",
        f"filled: p < 0.05 after Holm's correction for {claims} comparisons",
    )
    fig.supxlabel("\n".join(textwrap.fill(line, letters) for line in label), fontsize=9)
    fig.suptitle(textwrap.fill(title, letters), fontsize=10)
    save_figure(fig, path)


def dots(table: Table, path: Path, title: str) -> None:
    """A panel for each condition with every method's rate and interval: for many methods, and rates far apart."""
    columns = table.columns()
    fig, axes = pyplot.subplots(
        1, len(columns), figsize=(2 + 1.7 * len(columns), 1.3 + 0.28 * len(table.methods)), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for ax, column in zip(axes[0], columns):
        best = table.best(column)
        for y, method in enumerate(reversed(table.methods)):
            interval = table.interval(method, column)
            if interval:
                ax.plot(interval, [y, y], color="black", linewidth=1.2)
            fill = "black" if method == best else "white"
            ax.plot(table.rate(method, column), y, "o", markersize=6, markerfacecolor=fill, markeredgecolor="black")
        ax.set_title(table.heading(column), fontsize=10)
        ax.grid(axis="x", alpha=0.3)
        ax.margins(x=0.15, y=0.08)
    axes[0, 0].set_yticks(range(len(table.methods)), [table.label(m) for m in reversed(table.methods)])
    axes[0, 0].set_ylabel("method")
    fig.supxlabel(f"{table.metric.title}, 95 % interval; filled: the lowest", fontsize=9)
    # 14 characters of this size are an inch wide.
    fig.suptitle(textwrap.fill(title, int(14 * fig.get_figwidth())), fontsize=10)
    save_figure(fig, path)


def curves(runs: dict[str, dict[str, dict[str, float]]], path: Path, title: str, config: TableConfig) -> None:
    """One curve a run for each measure, told apart by markers and line styles as well as by shade.

    runs: by METHOD.SEED, what `pairs.measure` returns.
    """
    panels = {
        "l2": "L2 distance / norm of clean",
        "cosine": "cosine distance",
        "norm": "norm of clean activations",
        "effective_rank": "effective rank of clean activations",
        "jacobian": "norm of the Jacobian",
        "l2_ratio": "clean-noisy L2 / between-sample L2",
    }
    fig, grid = pyplot.subplots(2, len(panels) // 2, figsize=(13, 8), layout="constrained")
    axes = grid.flatten()
    for ax, (column, axis) in zip(axes, panels.items()):
        for i, (run, layers) in enumerate(runs.items()):
            marker, line = MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
            method, _, seed = run.rpartition(".")
            name = config.label(method) + (f", seed {seed}" if seed != "1" else "")
            values = [row[column] for row in layers.values()]
            ax.plot(list(layers), values, marker=marker, linestyle=line, label=name, markersize=5)
        ax.set_ylabel(axis)
        ax.set_ylim(bottom=0)
        ax.tick_params(axis="x", rotation=60)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8, frameon=False)
    fig.supxlabel("layer, from input to output", fontsize=9)
    fig.suptitle(title, fontsize=10)
    save_figure(fig, path)
