"""Rates of methods under conditions, from the JSON lines of finished runs, and their form in Markdown."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from irl.core.errors import UserError
from irl.reporting import results
from irl.reporting.statistics import bootstrap, paired_test
from irl.training.registry import modality

METHODS = {
    "baseline": "baseline",
    "data_aug": "data aug.",
    "irl_batching": "IRL batching",
    "irl_loss": "IRL loss",
    **{
        f"{method}_{noise}": f"{name}, {noise}"
        for noise in ("unigram", "blank")
        for method, name in (("data_aug", "data aug."), ("irl_batching", "IRL batching"), ("irl_loss", "IRL loss"))
    },
    "adversarial": "adv. trn.",
    "weighted_adversarial": "weighted IRL bat.",
    "weighted_adversarial_irl_loss": "weighted IRL loss",
    "semi_labelled": "few labels",
    "semi_unlabelled": "few labels + unlabelled",
    "lambda_r": "IRL bat. + Lambda_R",
}
TESTS = (
    ("irl_loss", "irl_batching"),
    ("irl_batching", "baseline"),
    ("irl_loss", "baseline"),
    ("irl_loss", "data_aug"),
    *((f"irl_loss_{noise}", f"irl_batching_{noise}") for noise in ("unigram", "blank")),
    *((f"{method}_{noise}", "baseline") for method in ("irl_loss", "data_aug") for noise in ("unigram", "blank")),
    ("weighted_adversarial", "adversarial"),
    ("weighted_adversarial_irl_loss", "weighted_adversarial"),
    ("semi_unlabelled", "semi_labelled"),
    ("lambda_r", "irl_batching"),
    ("lambda_r", "irl_loss"),
)
OTHERS = "mean of the others"
# Ends the name of a method that was decoded with a language model, in a table that holds it without one too.
WITH_LM = " + LM"


def label(method: str) -> str:
    """What a method is called in tables: the paper's name, or the name of its file of configuration."""
    name, lm, _ = method.partition(WITH_LM)
    return METHODS.get(name, name.rpartition("/")[2]) + lm


def select(lines: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """The newest line of each method and seed; with `wanted` only of runs that are asked for. Where some were decoded
    with a language model and some without, those with it are methods of their own."""
    if wanted is not None:
        lines = [
            line
            for line in lines
            if any(results.matches(line, run, modality(line["config"]["task"], "results")) for run in wanted)
        ]
    newest = {(line["method"], line["seed"], "lm" in line["decode"]): line for line in lines}
    if len({lm for _, _, lm in newest}) < 2:
        return list(newest.values())
    return [{**line, "method": line["method"] + WITH_LM * lm} for (_, _, lm), line in newest.items()]


def test_sets(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The lines of each test set: with several of them conditions are called SET:CONDITION. One set has the name ""."""
    names = dict.fromkeys(c.rpartition(":")[0] for line in lines for c in line["conditions"])
    found = {}
    for name in names:
        own = lambda c: c.rpartition(":")[0] == name  # noqa: E731
        found[name] = [
            {**line, "conditions": {c.rpartition(":")[2]: v for c, v in line["conditions"].items() if own(c)}}
            for line in lines
        ]
    return found


class Table:
    """Rates of methods under conditions. Errors of an utterance are averaged over the seeds of a method."""

    def __init__(self, lines: Sequence[dict[str, Any]]) -> None:
        self.lines = list(lines)
        first = self.lines[0]
        self.modality = modality(first["config"]["task"], "results")
        self.metric = self.modality.metric
        self.decoding: dict[str, dict[str, Any]] = {}
        for line in self.lines:
            used = self.modality.comparable(line["decode"])
            fused = self.decoding.setdefault(WITH_LM * line["method"].endswith(WITH_LM), used)
            for key, found, expected in (
                ("decode", used, fused),
                ("updates", line["updates"], first["updates"]),
                ("train_data", line.get("train_data"), first.get("train_data")),
            ):
                if found != expected:
                    raise UserError(
                        f"{line['method']}, seed {line['seed']}: {key} is {found}, but {expected} for "
                        f"{first['method']}, seed {first['seed']}: not to be compared"
                    )
        self.conditions = list(first["conditions"])
        for line in self.lines:
            for name in self.conditions:
                there, here = line["conditions"].get(name), first["conditions"][name]
                if there is None or there["data"] != here["data"] or there["reference"] != here["reference"]:
                    raise UserError(
                        f"{line['method']}, seed {line['seed']}: was not tested on the same utterances in condition "
                        f"{name} as {first['method']}, seed {first['seed']}"
                    )
        # The paper's rows first, others in the order of their lines.
        plain = {line["method"]: line["method"].removesuffix(WITH_LM) for line in self.lines}
        order = list(METHODS)
        rank = {m: order.index(plain[m]) if plain[m] in order else len(order) for m in plain}
        self.methods = sorted(plain, key=lambda m: (rank[m], m != plain[m]))
        # A run that was decoded in two ways was trained once.
        self.trained = [m for m in self.methods if m == plain[m] or plain[m] not in plain]
        self.errors: dict[tuple[str, str], np.ndarray] = {}
        self.seeds = {m: sorted(line["seed"] for line in self.lines if line["method"] == m) for m in self.methods}
        self.by_seed: dict[tuple[str, str], list[float]] = {}
        # What is tested on a part of the examples alone has a reference of 0 for the others.
        self.reference = {c: results.counts(first["conditions"][c]["reference"]) for c in self.conditions}
        for method in self.methods:
            rows = [line for line in self.lines if line["method"] == method]
            for c in self.conditions:
                errors = np.array([results.counts(row["conditions"][c]["errors"]) for row in rows])
                self.errors[method, c] = errors.mean(0)
                self.by_seed[method, c] = list(self.metric.show(errors.sum(1) / self.reference[c].sum()))
        # Conditions of one size are copies of the same examples, so they are resampled together.
        self.weights = {n: bootstrap(n) for n in {len(r) for r in self.reference.values()}}

    @property
    def noisy(self) -> list[str]:
        return [c for c in self.conditions if c != "none"]

    def columns(self) -> list[str]:
        return self.conditions + ([OTHERS] if self.metric.averaged and len(self.noisy) > 1 else [])

    def _each(self, column: str) -> list[str]:
        return self.noisy if column == OTHERS else [column]

    def label(self, method: str) -> str:
        return label(method)

    def rate(self, method: str, column: str) -> float:
        ratios = [self.errors[method, c].sum() / self.reference[c].sum() for c in self._each(column)]
        return float(np.mean([self.metric.show(ratio) for ratio in ratios]))

    def resampled(self, method: str, column: str) -> np.ndarray:
        found = []
        for c in self._each(column):
            errors, reference = self.errors[method, c], self.reference[c]
            weights = self.weights[len(reference)]
            found.append(self.metric.show((weights @ errors) / (weights @ reference)))
        return np.mean(found, axis=0)

    def interval(self, method: str, column: str) -> tuple[float, float]:
        low, high = np.percentile(self.resampled(method, column), [2.5, 97.5])
        return float(low), float(high)

    def spread(self, method: str, column: str) -> float | None:
        """Standard deviation over seeds, None for a single seed."""
        values = np.mean([self.by_seed[method, c] for c in self._each(column)], axis=0)
        return float(values.std(ddof=1)) if len(values) > 1 else None

    def test(self, a: str, b: str, column: str) -> dict[str, float]:
        observed = self.rate(a, column) - self.rate(b, column)
        return paired_test(self.resampled(a, column), self.resampled(b, column), observed)


def rates(table: Table) -> str:
    """The rates as a Markdown table, the best of a column in bold."""
    columns = table.columns()
    out = [
        f"{table.metric.title.capitalize()}, with 95 % bootstrap intervals over {table.metric.counted}"
        + (" and ± the standard deviation over seeds." if any(len(s) > 1 for s in table.seeds.values()) else "."),
        "",
        "| method | " + " | ".join(map(table.modality.heading, columns)) + " |",
        "|---|" + "---|" * len(columns),
    ]
    best = {c: min(table.rate(m, c) for m in table.methods) for c in columns}
    for method in table.methods:
        cells = []
        for column in columns:
            rate, (low, high), sd = (
                table.rate(method, column),
                table.interval(method, column),
                table.spread(method, column),
            )
            value = f"**{rate:.1f}**" if rate == best[column] else f"{rate:.1f}"
            cells.append(f"{value} ({low:.1f}-{high:.1f})" + (f" ±{sd:.1f}" if sd is not None else ""))
        out.append(f"| {label(method)} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def markdown(table: Table, note: str) -> str:
    """The table, the paired tests, and what they were made from."""
    columns = table.columns()
    out = [note, "", rates(table)] if note else [rates(table)]
    with_lm = [m for m in table.methods if m.endswith(WITH_LM)]
    pairs = [*TESTS, *((m, "irl_batching") for m in table.methods if m not in METHODS and m not in with_lm)]
    pairs += [(a + WITH_LM, b + WITH_LM) for a, b in TESTS]
    pairs += [(m, m.removesuffix(WITH_LM)) for m in with_lm]
    tests = [(a, b) for a, b in pairs if a in table.methods and b in table.methods]
    if tests:
        points = "percentage points" if table.metric.unit else table.metric.name.partition(" ")[0]
        out += ["", f"Paired bootstrap tests: difference in {points}, its 95 % interval, two-sided p.", ""]
        shown = [c for c in table.metric.tested or columns if c in columns]
        out += [
            "| difference | " + " | ".join(map(table.modality.heading, shown)) + " |",
            "|---|" + "---|" * len(shown),
        ]
        for a, b in tests:
            cells = []
            for column in shown:
                t = table.test(a, b, column)
                cells.append(f"{t['difference']:+.1f} ({t['low']:+.1f} to {t['high']:+.1f}), p = {t['p']:.3f}")
            out.append(f"| {label(a)} - {label(b)} | " + " | ".join(cells) + " |")
    out += table.modality.table_sections(table) + layers(table)
    first = table.lines[0]
    sizes = {c: int((table.reference[c] > 0).sum()) for c in table.conditions}
    most = max(sizes.values())
    fewer = "".join(f", {n} under {table.modality.heading(c)}" for c, n in sizes.items() if n < most)
    seconds = {
        m: np.mean([line["train_seconds"] for line in table.lines if line["method"] == m]) for m in table.trained
    }
    out += [
        "",
        f"{most} {table.metric.counted} a condition{fewer}; {first['updates']} updates, of them "
        f"{first['config']['train']['clean_updates']} clean, for every method.",
        *(table.modality.describe(decode) for decode in table.decoding.values()),
        "Seeds: " + ", ".join(f"{label(m)} {' '.join(map(str, s))}" for m, s in table.seeds.items()) + ".",
        "Training time a run: " + ", ".join(f"{label(m)} {s:.0f} s" for m, s in seconds.items()) + ".",
        "Versions: "
        + ", ".join(f"{k} {v}" for k, v in first["versions"].items())
        + f"; commit {', '.join(dict.fromkeys(line['commit'] for line in table.lines))}.",
    ]
    return "\n".join(out) + "\n"


def layers(table: Table) -> list[str]:
    """What the last evaluation on dev found of clean and noisy activations, averaged over layers and seeds."""
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
        if any(cells):
            rows.append(f"| {label(method)} | " + " | ".join(cells) + " |")
    if not rows:
        return []
    head = "Activations of the dev set, clean and with the training's kind of noise, averaged over the layers:"
    return ["", head, "", "| method | " + " | ".join(measures.values()) + " |", "|---" * 5 + "|", *rows]
