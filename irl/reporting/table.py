"""Rates of methods under conditions, computed from the JSON lines of finished runs."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import numpy as np

from irl.core.errors import UserError
from irl.reporting import results
from irl.reporting.statistics import edge_interval, paired_test, percentiles, resampled_sums
from irl.reporting.table_config import TableConfig
from irl.training.modality import Modality, percent

# The condition without noise, and the column beside the conditions, where their mean means anything.
CLEAN = "none"
NOISY_MEAN = "mean over noisy conditions"


def select(
    lines: Sequence[dict[str, Any]],
    modality: Modality,
    config: TableConfig,
    wanted: Sequence[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """The newest line of each method and seed, with `wanted` only of those runs and conditions. Variants (see
    TableConfig) become methods of their own where there are several: their lines have "variant", with which the name of
    the method ends."""
    if wanted is not None:
        lines = [asked for line in lines for asked in _asked(line, wanted, modality)]
    newest = {(line["method"], line["seed"], config.variant(line["decode"])): line for line in lines}
    if len({variant for _, _, variant in newest}) < 2:
        return list(newest.values())
    return [{**line, "method": method + end, "variant": end} for (method, _, end), line in newest.items()]


def _asked(line: dict[str, Any], wanted: Sequence[dict[str, Any]], modality: Modality) -> Iterator[dict[str, Any]]:
    """The line with the conditions that are asked for, if any run asks for it: others may be of data that have gone."""
    run = next((run for run in wanted if results.matches(line, run, modality)), None)
    if run is not None:
        yield {**line, "conditions": {k: v for k, v in line["conditions"].items() if k in run["conditions"]}}


def by_test_set(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The lines of each test set: with several of them conditions are called SET:CONDITION. One set has the name ""."""
    names = dict.fromkeys(c.rpartition(":")[0] for line in lines for c in line["conditions"])
    sets = {}
    for name in names:
        own = lambda c: c.rpartition(":")[0] == name  # noqa: E731
        sets[name] = [
            {**line, "conditions": {c.rpartition(":")[2]: v for c, v in line["conditions"].items() if own(c)}}
            for line in lines
        ]
    return sets


def validate(lines: Sequence[dict[str, Any]], modality: Modality, own_updates: Sequence[str]) -> None:
    """Raise UserError unless the lines may be compared: trained on the same data, and for as long but for the methods
    `own_updates`, evaluated in the same way (each variant in its own) on the same examples of every condition."""
    first, peers, as_long = lines[0], dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for line in lines:
        run = f"{line['method']}, seed {line['seed']}"
        variant = line.get("variant", "")
        method = line["method"].removesuffix(variant)
        peer = peers.setdefault(variant, line)
        trained = as_long.setdefault(method if method in own_updates else "", line)
        for key, other, found, expected in (
            ("decode", peer, modality.comparable(line["decode"]), modality.comparable(peer["decode"])),
            ("updates", trained, line["updates"], trained["updates"]),
            ("train_data", first, line.get("train_data"), first.get("train_data")),
        ):
            if found != expected:
                raise UserError(
                    f"{run}: {key} is {found}, but {expected} for {other['method']}, seed {other['seed']}: not to be "
                    "compared"
                )
        for name, expected in first["conditions"].items():
            counts = line["conditions"].get(name)
            if counts is None or any(counts[key] != expected[key] for key in ("data", "reference")):
                raise UserError(
                    f"{run}: was not tested on the same {modality.metric.counted} in condition {name} as "
                    f"{first['method']}, seed {first['seed']}"
                )


class Table:
    """Rates of methods under conditions. Errors of an example are averaged over the seeds of a method, and all methods
    share their resamples.

    methods: names, in the order of rows; the name of a variant ends with the variant. plain: their names without it.
    trained: methods whose training is not that of a row before. errors: (N,) by method and condition, averaged over
    seeds; reference: (N,) by condition, what they are divided by, 0 for an example that was not tested.
    """

    def __init__(self, lines: Sequence[dict[str, Any]], modality: Modality, config: TableConfig) -> None:
        validate(lines, modality, config.own_updates)
        self.lines, self.modality, self.config, self.metric = list(lines), modality, config, modality.metric
        self.conditions = list(lines[0]["conditions"])
        self.plain = {line["method"]: line["method"].removesuffix(line.get("variant", "")) for line in lines}
        self.methods = self._order()
        self.trained = [m for m in self.methods if m == self.plain[m] or self.plain[m] not in self.plain]
        self.seeds = {m: sorted(line["seed"] for line in lines if line["method"] == m) for m in self.methods}
        self._aggregate()
        self._resample()

    def _order(self) -> list[str]:
        """Methods of the configuration first, others in the order of their lines; a variant after its plain form."""
        listed = list(self.config.methods)
        rank = {m: listed.index(p) if p in listed else len(listed) for m, p in self.plain.items()}
        return sorted(self.plain, key=lambda m: (rank[m], m != self.plain[m]))

    def _aggregate(self) -> None:
        """Unpack the counts: by_seed, errors (seeds, N) by method and condition; errors, their means; reference."""
        counts = self.lines[0]["conditions"]
        self.reference = {c: results.counts(counts[c]["reference"]) for c in self.conditions}
        self.by_seed: dict[tuple[str, str], np.ndarray] = {}
        for method in self.methods:
            rows = [line["conditions"] for line in self.lines if line["method"] == method]
            for c in self.conditions:
                self.by_seed[method, c] = np.array([results.counts(row[c]["errors"]) for row in rows])
        self.errors = {key: errors.mean(0) for key, errors in self.by_seed.items()}

    def _resample(self) -> None:
        """ratios: (resamples,) by method and condition. Conditions of one size are copies of the same examples, so they
        are resampled together."""
        self.ratios: dict[tuple[str, str], np.ndarray] = {}
        for size in {len(r) for r in self.reference.values()}:
            alike = [c for c in self.conditions if len(self.reference[c]) == size]
            keys = [(method, c) for method in self.methods for c in alike]
            # Sums over seeds, not means: counts are exact, and resamples in which two methods are equal are ties.
            columns = [self.reference[c] for c in alike] + [self.by_seed[key].sum(0) for key in keys]
            sums = resampled_sums(np.stack(columns, axis=1)).T
            references = dict(zip(alike, sums))
            with np.errstate(invalid="ignore"):  # a resample may hold no example that was tested
                for key, errors in zip(keys, sums[len(alike) :]):
                    self.ratios[key] = errors / (len(self.by_seed[key]) * references[key[1]])

    @property
    def noisy(self) -> list[str]:
        return [c for c in self.conditions if c != CLEAN]

    def columns(self) -> list[str]:
        return self.conditions + ([NOISY_MEAN] if self.metric.averaged and len(self.noisy) > 1 else [])

    def _each(self, column: str) -> list[str]:
        return self.noisy if column == NOISY_MEAN else [column]

    def label(self, method: str) -> str:
        """The name of a method for people."""
        plain = self.plain[method]
        return self.config.label(plain) + method.removeprefix(plain)

    def heading(self, column: str) -> str:
        return column if column == NOISY_MEAN else self.modality.heading(column)

    def rate(self, method: str, column: str) -> float:
        ratios = [self.errors[method, c].sum() / self.reference[c].sum() for c in self._each(column)]
        return float(np.mean([self.metric.show(ratio) for ratio in ratios]))

    def best(self, column: str) -> str | None:
        """The method of the lowest rate, None where another shows the same number."""
        shown = {m: f"{self.rate(m, column):.1f}" for m in self.methods}
        lowest = min(self.methods, key=lambda m: self.rate(m, column))
        return lowest if list(shown.values()).count(shown[lowest]) == 1 else None

    def resampled(self, method: str, column: str) -> np.ndarray:
        """The rate in every resample of the examples, (resamples,)."""
        mean: np.ndarray = np.mean([self.metric.show(self.ratios[method, c]) for c in self._each(column)], axis=0)
        return mean

    def tested(self, column: str) -> int:
        """The number of examples that a column is about."""
        return max(int((self.reference[c] > 0).sum()) for c in self._each(column))

    def interval(self, method: str, column: str) -> tuple[float, float] | None:
        """The 95 % interval of a rate (see `edge_interval` for rates of 0 and 100 %), None for a single example."""
        if self.tested(column) < 2:
            return None
        conditions = self._each(column)
        edge = None
        if self.metric.show is percent:
            edge = edge_interval([self.errors[method, c] for c in conditions], [self.reference[c] for c in conditions])
        return (percent(edge[0]), percent(edge[1])) if edge else percentiles(self.resampled(method, column))

    def spread(self, method: str, column: str) -> float | None:
        """Standard deviation over seeds, None for a single seed."""
        ratios = [self.by_seed[method, c].sum(1) / self.reference[c].sum() for c in self._each(column)]
        values = np.mean([self.metric.show(ratio) for ratio in ratios], axis=0)
        return float(values.std(ddof=1)) if len(values) > 1 else None

    def test(self, a: str, b: str, column: str) -> dict[str, float]:
        """The paired test of a - b (see `paired_test`); of a single example the difference alone. p is no less than in
        a sign test in which all examples agree: five of them cannot tell p below 0.06."""
        observed, count = self.rate(a, column) - self.rate(b, column), self.tested(column)
        if count < 2:
            return {"difference": observed}
        found = paired_test(self.resampled(a, column), self.resampled(b, column), observed)
        return {**found, "p": max(found["p"], 2.0 ** (1 - count))}
