"""Pictures of results: drawn for people, readable without colour, each written as PNG and SVG."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot  # noqa: E402 (after the choice of the backend)

from irl.reporting.table import Table, label

matplotlib.use("Agg")


# Names inside an SVG come from its content, not from chance: it changes only with its content.
matplotlib.rcParams["svg.hashsalt"] = "irl"


def save_figure(fig: Any, path: Path) -> None:
    """Write path.png and path.svg, the latter without a date, so that it changes only with its content."""
    for suffix in ("png", "svg"):
        fig.savefig(path.with_suffix(f".{suffix}"), dpi=150, metadata={"Date": None} if suffix == "svg" else None)
    pyplot.close(fig)


def bars(table: Table, path: Path, title: str) -> None:
    """Rates with intervals, grouped by condition; readable without colour. Writes path.png and path.svg."""
    columns = table.columns()
    styles = (("0.9", ""), ("0.75", "///"), ("0.55", "..."), ("0.1", ""), ("1.0", "xxx"))
    fig, axes = pyplot.subplots(figsize=(max(7.0, 1.35 * len(columns)), 4.2), layout="constrained")
    width = 0.8 / len(table.methods)
    for i, method in enumerate(table.methods):
        rates = np.array([table.rate(method, c) for c in columns])
        bounds = np.array([table.interval(method, c) for c in columns]).T
        x = np.arange(len(columns)) + (i - (len(table.methods) - 1) / 2) * width
        errors = np.abs(bounds - rates)
        shade, hatch = styles[i % len(styles)]
        axes.bar(x, rates, width, label=label(method), color=shade, hatch=hatch, edgecolor="black", linewidth=0.6)
        axes.errorbar(x, rates, yerr=errors, fmt="none", ecolor="tab:red", elinewidth=1.2, capsize=2)
    axes.set_xticks(np.arange(len(columns)), [c.replace(" of ", " of\n") for c in columns])
    axes.set_ylabel(table.metric.title)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(ncols=len(table.methods), fontsize=9, frameon=False)
    save_figure(fig, path)


def forest(table: Table, path: Path, title: str) -> None:
    """For many methods: the difference of each to IRL batching, with its paired interval, from best to worst."""
    column = table.columns()[-1]
    base = "irl_batching"
    # The baseline is so far off that the others could not be told apart beside it.
    others = [m for m in table.methods if m != base and not m.startswith("baseline")]
    tests = {m: table.test(m, base, column) for m in others}
    order = sorted(others, key=lambda m: -tests[m]["difference"])
    fig, axes = pyplot.subplots(figsize=(7, 1.2 + 0.3 * len(order)), layout="constrained")
    for y, method in enumerate(order):
        t = tests[method]
        axes.plot([t["low"], t["high"]], [y, y], color="black", linewidth=1.2)
        axes.plot(t["difference"], y, "o", color="black", markersize=5)
    axes.axvline(0, color="0.5", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(order)), [label(m) for m in order])
    unit = " (percentage points)" if table.metric.unit else ""
    axes.set_xlabel(f"difference to {label(base)} in {table.metric.name},\n{column}{unit}")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    save_figure(fig, path)


def dots(table: Table, path: Path, title: str) -> None:
    """A panel for each condition with every method's rate and interval: for many methods, and rates far apart."""
    columns = table.columns()
    fig, axes = pyplot.subplots(
        1, len(columns), figsize=(2 + 1.7 * len(columns), 1.3 + 0.28 * len(table.methods)), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for ax, column in zip(axes[0], columns):
        best = min(table.rate(m, column) for m in table.methods)
        for y, method in enumerate(reversed(table.methods)):
            rate = table.rate(method, column)
            low, high = table.interval(method, column)
            ax.plot([low, high], [y, y], color="black", linewidth=1.2)
            fill = "black" if rate == best else "white"
            ax.plot(rate, y, "o", markersize=6, markerfacecolor=fill, markeredgecolor="black")
        ax.set_title(table.modality.heading(column), fontsize=10)
        ax.grid(axis="x", alpha=0.3)
        ax.margins(x=0.15, y=0.08)
    axes[0, 0].set_yticks(range(len(table.methods)), [label(m) for m in reversed(table.methods)])
    fig.supxlabel(f"{table.metric.title}, 95 % interval; filled: the lowest", fontsize=9)
    # 14 characters of this size are an inch wide.
    fig.suptitle(textwrap.fill(title, int(14 * fig.get_figwidth())), fontsize=10)
    save_figure(fig, path)


def curves(found: dict[str, dict[str, dict[str, float]]], path: Path, title: str) -> None:
    """One curve a run for each measure, told apart by markers and line styles as well as by shade."""
    panels = {
        "l2": "L2 distance / norm of clean",
        "cosine": "cosine distance",
        "norm": "norm of clean activations",
        "effective_rank": "effective rank of clean activations",
        "jacobian": "norm of the Jacobian",
        "l2_ratio": "L2 distance / that between different inputs",
    }
    fig, grid = pyplot.subplots(2, len(panels) // 2, figsize=(13, 8), layout="constrained")
    axes = grid.flatten()
    markers, lines = "os^Dv*Px<>", ("-", "--", "-.", ":")
    for ax, (column, axis) in zip(axes, panels.items()):
        for i, (run, layers) in enumerate(found.items()):
            marker, line = markers[i % len(markers)], lines[i % len(lines)]
            method, _, seed = run.rpartition(".")
            name = label(method) + (f", seed {seed}" if seed != "1" else "")
            values = [row[column] for row in layers.values()]
            ax.plot(list(layers), values, marker=marker, linestyle=line, label=name, markersize=5)
        ax.set_ylabel(axis)
        ax.set_ylim(bottom=0)
        ax.tick_params(axis="x", rotation=60)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8, frameon=False)
    fig.suptitle(title, fontsize=10)
    save_figure(fig, path)
