"""Distances between the activations of two views of a sample: L2, cosine and KL, which add and scale.

    0.1 * L2() + Cosine()

A distance maps two tensors (N, M, D), M vectors of D units for each of N samples, to (N, M). All arithmetic is in
float32 at least. L2 and cosine need only the sums (d2, aa, bb, s) over the units of each pair (see `pair_sums`): with
delta = |a| - |b| = s / (|a| + |b|) the law of cosines gives 1 - cos(a, b) = (d2 - delta^2) / (2 |a| |b|), accurate
where 1 - a.b/|a||b| has lost every digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.objective.divergence import divergence
from irl.objective.pair_sums import Sums, at_once, one_by_one, wide

# A vector whose norm is at or below this counts as zero: it has no direction.
ZERO_NORM = 1e-8


def _sqrt(x: Tensor) -> Tensor:
    """Square root with gradient 0 at 0, a subgradient of the norm there."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


class Distance:
    """A weighted sum of elementary distances. `weighted` lists them with their weights."""

    @property
    def weighted(self) -> tuple[tuple[float, Elementary], ...]:
        raise NotImplementedError

    def __add__(self, other: Distance) -> Distance:
        if not isinstance(other, Distance):
            return NotImplemented
        return _Sum(self.weighted + other.weighted)

    def __mul__(self, weight: float) -> Distance:
        if not isinstance(weight, (int, float)):
            return NotImplemented
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of a distance must be finite and not negative, got {weight}")
        return _Sum(tuple((weight * w, part) for w, part in self.weighted))

    __rmul__ = __mul__

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The weighted distance of a and b, (N, M, D) each -> (N, M)."""
        return self.combine(self.parts([(a, b)])[0])

    def only(self, of_logits: bool) -> Distance | None:
        """The part of this distance that is of distributions, or the other part; None where there is none."""
        terms = tuple(term for term in self.weighted if isinstance(term[1], OF_LOGITS) == of_logits)
        return _Sum(terms) if terms else None

    def parts(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[dict[str, Tensor]]:
        """For each pair (a, b), (N, M, D) each, every elementary distance by name, unweighted, (N, M) each.

        The pair sums are taken once for all distances, and the arithmetic on them once for all pairs: over many small
        layers its many small operations would cost more than the sums.
        """
        found: list[dict[str, Tensor]] = [{} for _ in pairs]
        from_sums = [part for _, part in self.weighted if isinstance(part, FromSums)]
        if from_sums:
            together = at_once(from_sums, pairs)
            sizes = [math.prod(a.shape[:-1]) for a, _ in pairs]
            for part, values in zip(from_sums, one_by_one(from_sums, pairs) if together is None else together):
                for out, (a, _), value in zip(found, pairs, values.split(sizes)):
                    out[part.name] = value.view(a.shape[:-1])
        for _, other in self.weighted:
            if not isinstance(other, FromSums):
                for out, (a, b) in zip(found, pairs):
                    out[other.name] = other.of(a, b)
        return found

    def at_once(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
        """What `parts` returns as one tensor, by elementary distance and vector of all pairs, (K, N_1 M_1 + ...): by a
        few kernels on a GPU; None elsewhere, and where a distance needs more than pair sums."""
        parts = [part for _, part in self.weighted]
        from_sums = [part for part in parts if isinstance(part, FromSums)]
        return at_once(from_sums, pairs) if len(from_sums) == len(parts) else None

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `parts` returned, or of means of it."""
        first, *rest = (w * parts[part.name] for w, part in self.weighted)
        return sum(rest, first)

    @classmethod
    def from_dict(cls, weights: Mapping[str, float]) -> Distance:
        """A distance from its form in YAML, such as {"l2": 0.1, "cosine": 1.0}."""
        if not weights:
            raise ValueError(f"a distance needs at least one of {', '.join(BY_NAME)}")
        for name in weights:
            if name not in BY_NAME:
                raise ValueError(f"unknown distance {name!r}, known are {', '.join(BY_NAME)}")
        return _Sum(tuple(pair for name, w in weights.items() for pair in (w * BY_NAME[name]).weighted))


@dataclass(frozen=True)
class _Sum(Distance):
    terms: tuple[tuple[float, Elementary], ...]

    def __post_init__(self) -> None:
        names = [part.name for _, part in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f"a distance appears twice in a sum: {', '.join(names)}; give it one weight")

    @property
    def weighted(self) -> tuple[tuple[float, Elementary], ...]:
        return self.terms


class Elementary(Distance):
    """One distance with a name."""

    name: str

    @property
    def weighted(self) -> tuple[tuple[float, Elementary], ...]:
        return ((1.0, self),)

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError


class FromSums(Elementary):
    """A distance that is a function of the four pair sums and of the number of units D, all of one shape.

    kernel: its name in `irl.core.kernels.KINDS`, "" if it is not there.
    """

    kernel: str = ""

    def from_sums(self, sums: Sums, units: Tensor) -> Tensor:
        raise NotImplementedError


_L2_NAMES = {"norm": "l2", "squared": "l2_squared", "mean": "l2_mean", "relative": "l2_relative"}


@dataclass(frozen=True)
class L2(FromSums):
    """kind "norm": |a - b|; "squared": |a - b|^2; "mean": |a - b|^2 / D; "relative": |a - b| / |a|, a being clean.

    Relative to a zero vector the distance is 0 and carries no gradient.
    """

    kind: str = "norm"

    def __post_init__(self) -> None:
        if self.kind not in _L2_NAMES:
            raise ValueError(f"unknown kind of L2 distance {self.kind!r}, known are {', '.join(_L2_NAMES)}")

    @property
    def name(self) -> str:  # type: ignore[override]
        return _L2_NAMES[self.kind]

    kernel = name

    def from_sums(self, sums: Sums, units: Tensor) -> Tensor:
        d2, aa, _, _ = sums
        if self.kind == "squared":
            return d2
        if self.kind == "mean":
            return d2 / units
        norm = _sqrt(d2)
        if self.kind == "norm":
            return norm
        valid = aa > ZERO_NORM**2
        return torch.where(valid, norm / torch.where(valid, aa, 1.0).sqrt(), 0.0)


@dataclass(frozen=True)
class Cosine(FromSums):
    """1 - cos(a, b), in [0, 2]. A zero vector has no direction: 0 if both are zero, else 1, without gradient."""

    name: str = "cosine"
    kernel = "cosine"

    def from_sums(self, sums: Sums, units: Tensor) -> Tensor:
        d2, aa, bb, s = sums
        zero_a, zero_b = aa <= ZERO_NORM**2, bb <= ZERO_NORM**2
        valid = ~(zero_a | zero_b)
        norm_a, norm_b = (torch.where(valid, x, 1.0).sqrt() for x in (aa, bb))
        delta = s / (norm_a + norm_b)
        cosine = (d2 - delta * delta).clamp(min=0) / (2 * norm_a * norm_b)
        return torch.where(valid, cosine, (zero_a ^ zero_b).to(cosine.dtype))


@dataclass(frozen=True)
class Norms(FromSums):
    """(|a|^2 + |b|^2) / 2D: no distance but a control. Is a gain that a distance brings one that shrinking brings?"""

    name: str = "norms"
    kernel = "norms"

    def from_sums(self, sums: Sums, units: Tensor) -> Tensor:
        return (sums[1] + sums[2]) / (2 * units)


@dataclass(frozen=True)
class KL(Elementary):
    """KL(softmax(a / t) || softmax(b / t)) of logits, in nats; a is the clean view.

    symmetric: the mean of both directions. detach_target: the distribution on the left of the bars is a constant,
    as in knowledge distillation and CR-CTC. See `irl.objective.divergence`.
    """

    temperature: float = 1.0
    symmetric: bool = False
    detach_target: bool = False
    name: str = "kl"

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        if self.temperature != 1:
            a, b = wide(a) / self.temperature, wide(b) / self.temperature
        return divergence(a, b, self.symmetric, self.detach_target)


@dataclass(frozen=True)
class CrossEntropy(Elementary):
    """-sum softmax(a) log softmax(b) of logits, in nats; a is the clean view. KL and the entropy of the clean view's
    prediction: gradients through a make it certain too (Zheng et al. 2016)."""

    name: str = "cross_entropy"

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        # A class that a logit of -inf excludes from the clean view counts nothing.
        log_q = F.log_softmax(wide(b), dim=-1).masked_fill(a == -math.inf, 0)
        return -(wide(a).softmax(-1) * log_q).sum(-1)


@dataclass(frozen=True)
class Probabilities(Elementary):
    """|softmax(a) - softmax(b)|^2 / D of logits, as in the Pi-model (Laine and Aila 2017)."""

    name: str = "probabilities"

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        return (wide(a).softmax(-1) - wide(b).softmax(-1)).square().mean(-1)


BY_NAME: dict[str, Elementary] = {
    **{name: L2(kind) for kind, name in _L2_NAMES.items()},
    "cosine": Cosine(),
    "kl": KL(),
    "kl_symmetric": KL(symmetric=True, name="kl_symmetric"),
    "kl_symmetric_detached": KL(symmetric=True, detach_target=True, name="kl_symmetric_detached"),
    "cross_entropy": CrossEntropy(),
    "probabilities": Probabilities(),
    "norms": Norms(),
}
# Of distributions, one a frame.
OF_LOGITS = (KL, CrossEntropy, Probabilities)
# Means over the units of a vector, not sums.
PER_UNIT = ("l2_mean", "norms")
