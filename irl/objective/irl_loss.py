"""The IRL loss (Salazar, Liang, Huang, Lipton 2018):

    L_IRL = alpha * L(x, y) + beta * (1/K) sum_k L(x~k, y) + gamma * sum_l gamma_l d_l(a_l(x), {a_l(x~k)}_k)

Distances are taken per sample (for sequences, per valid frame, then averaged over the sample's frames), averaged
over the pairs of views and over the batch. Gradients flow to both sides of a pair unless stop_grad names one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Literal, Mapping, Sequence, get_args

import torch
from torch import Tensor, distributed

from irl.core.output import Output, constant
from irl.objective.distances import KL, L2, Cosine, Distance
from irl.objective.gradient_check import check_gradient
from irl.objective.pairing import Pairs, pairs_of
from irl.objective.passes import no_gradient_of, run_views
from irl.objective.terms import Terms
from irl.objective.vectors import averages, compared_vectors
from irl.objective.vicreg import regularisers

# (alpha, beta, gamma) of the paper's rows.
PRESETS = {
    "baseline": (1.0, 0.0, 0.0),
    "data_aug": (0.0, 1.0, 0.0),
    "irl_batching": (0.5, 0.5, 0.0),
    "irl_loss": (0.5, 0.5, 1.0),
    "adversarial": (0.5, 0.5, 0.0),
    "weighted_adversarial": (0.8, 0.2, 0.0),
    "weighted_adversarial_irl_loss": (0.8, 0.2, 1.0),
}
StopGrad = Literal["none", "clean", "noisy"]
Over = Literal["frame", "sample"]
Passes = Literal["stacked", "separate", "unchecked"]
BatchNorm = Literal["joint", "split"]
Normalise = Literal["none", "instance"]


@dataclass(frozen=True, eq=False)  # compared by identity: torch.compile hashes it, and layers may be a dict
class IRLLoss:
    """Settings of the objective; calling it runs the model over all views and returns `Terms`.

    alpha, beta, gamma: weights of the clean loss, the mean noisy loss and the distance. gamma = 0 is IRL batching.
    distance: such as 0.1 * L2() + Cosine().
    layers: weights gamma_l by layer name, or a sequence of names (weight 1), or None for every hidden state. Names are
        those of the model's hidden states and extra outputs, or "logits".
    from_layer: with layers None, only this hidden state and those above it.
    pairs: "clean": clean with each noisy copy; "noisy": among the noisy copies; "all": both; "in_batch": each sample of
        the views that carry a task loss with the next sample of the batch, as in clean logit pairing; "mixture": all
        views with the mean of their distributions: with KL the Jensen-Shannon divergence, as in AugMix.
    stop_grad: "none", or the side of a clean-noisy pair that is held constant, "clean" or "noisy".
    over: "frame": a layer with lengths is compared frame by frame; "sample": each sample as one long vector, padding
        left out. A layer without lengths is always one vector per sample.
        KL and other distances of distributions are taken over the last dimension at each position, (N, C, H, W) without
        lengths over the classes C, and averaged over the (valid) positions.
    normalise: "instance": hidden states are compared after each unit is normalised over the (valid) frames of its
        sample, or each channel over the positions of its image, as the targets of robust data2vec (Zhu et al. 2023).
    variance, covariance: weights of VICReg's two terms against collapse (irl.objective.vicreg), of the same layers of
        all views by their weights.
    warmup: gamma rises linearly from 0 over this many steps; then calls need step=.
    passes: "stacked": one pass over all views, stacked along dimension 0; before its first one, a tapped model is run
        without gradients to see that it treats views alike and alone. "unchecked": without that. "separate": one pass a
        view, from the same state of all generators, for models whose views cannot be stacked: those that compute their
        own loss, draw their own masks, sort, carry states, or take packed or time-first inputs or masks (T, T). Views
        of different lengths T are then compared where lengths are given. With DDP and batch norm it needs
        broadcast_buffers=False.
    batch_norm: "joint": in training mode, batch norm sees all stacked views as one batch; "split": each view alone, in
        order, as in separate passes.

    Raises ValueError for settings that make no sense and, at the first call, for unknown layer names, for views that
    cannot be stacked and where the distance has no gradient while the task loss has one.
    """

    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 1.0
    distance: Distance = field(default_factory=lambda: 0.1 * L2() + Cosine())
    layers: Mapping[str, float] | Sequence[str] | None = None
    from_layer: str | None = None
    pairs: Pairs = "clean"
    stop_grad: StopGrad = "none"
    over: Over = "frame"
    normalise: Normalise = "none"
    variance: float = 0.0
    covariance: float = 0.0
    warmup: int = 0
    passes: Passes = "stacked"
    batch_norm: BatchNorm = "joint"

    def __post_init__(self) -> None:
        layers = self.layers if isinstance(self.layers, Mapping) else {}
        names = ("alpha", "beta", "gamma", "variance", "covariance")
        weights = {name: getattr(self, name) for name in names}
        weights.update({f"the weight of layer {name}": weight for name, weight in layers.items()})
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {weight}")
        if self.alpha == self.beta == self.gamma == 0:
            raise ValueError("alpha, beta and gamma are all 0: nothing to train on")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")
        if not isinstance(self.distance, Distance):
            raise ValueError(f"distance must be a distance such as 0.1 * L2() + Cosine(), got {self.distance!r}")
        settings = {"pairs": Pairs, "stop_grad": StopGrad, "over": Over, "normalise": Normalise, "passes": Passes}
        settings["batch_norm"] = BatchNorm
        for name, allowed in settings.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        if self.stop_grad != "none" and self.pairs not in ("clean", "all"):
            raise ValueError(f"stop_grad names a side of clean-noisy pairs, there are none with pairs={self.pairs!r}")
        if self.pairs == "mixture" and not all(
            isinstance(part, KL) and part.temperature == 1 for _, part in self.distance.weighted
        ):
            raise ValueError(
                "pairs='mixture' takes the mean of distributions: expected distance=KL(), without a temperature"
            )
        if isinstance(self.layers, str):
            raise ValueError(f"layers must be a sequence of names or a mapping to weights, got {self.layers!r}")
        if self.over == "sample" and self.distance.only(of_logits=True):
            raise ValueError("KL and other distances of distributions, one a frame, need over='frame'")
        if self.over == "sample" and self.normalise == "instance":
            raise ValueError(
                "normalise='instance' compares frames with the mean and variance of a sample: over='frame'"
            )
        if self.layers is not None and self.from_layer is not None:
            raise ValueError("give layers or from_layer, not both")

    @classmethod
    def preset(cls, name: str, **settings: Any) -> IRLLoss:
        """The weights of one of the paper's rows (see PRESETS), with any other settings."""
        if name not in PRESETS:
            raise ValueError(f"unknown row {name!r}, known are {', '.join(PRESETS)}")
        alpha, beta, gamma = PRESETS[name]
        return cls(**{"alpha": alpha, "beta": beta, "gamma": gamma, **settings})

    @property
    def needs_clean(self) -> bool:
        """Whether any term looks at the clean view (law 2: a view of weight zero is not forwarded)."""
        paired = self.beta == 0 if self.pairs == "in_batch" else self.pairs != "noisy"
        return self.alpha > 0 or (self.gamma > 0 and paired)

    def _forwards_clean(self, targets: Output | None) -> bool:
        return self.alpha > 0 or (self.needs_clean and targets is None)

    @property
    def needs_noisy(self) -> bool:
        return self.beta > 0 or (self.gamma > 0 and self.pairs != "in_batch")

    def clean_only(self) -> IRLLoss:
        """The objective of a clean phase: the task loss on clean samples alone."""
        return replace(self, alpha=1.0, beta=0.0, gamma=0.0, variance=0.0, covariance=0.0, warmup=0)

    def gamma_at(self, step: int | None) -> float:
        if not self.warmup:
            return self.gamma
        if step is None:
            raise ValueError(f"gamma warms up over {self.warmup} steps: give the step of the call")
        return self.gamma * min(1.0, step / self.warmup)

    def layer_weights(self, known: Sequence[str], hidden: Sequence[str]) -> dict[str, float]:
        """gamma_l of the chosen layers in forward order. known: all names there are; hidden: those taken by default."""
        if self.layers is None:
            wanted = [] if self.from_layer is None else [self.from_layer]
            allowed = list(hidden)
            first = allowed.index(self.from_layer) if self.from_layer in allowed else 0
            mapping = dict.fromkeys(allowed[first:], 1.0)
        else:
            mapping = dict(self.layers) if isinstance(self.layers, Mapping) else dict.fromkeys(self.layers, 1.0)
            wanted, allowed = list(mapping), list(known)
        for name in wanted:
            if name not in allowed:
                raise ValueError(f"unknown layer {name!r}, known are {', '.join(known)}")
        chosen = [name for name in allowed if name in mapping]
        weights = {name: float(mapping[name]) for name in chosen if mapping[name] > 0}
        if not weights:
            raise ValueError("no layer to compare: no hidden state was returned, or every layer has weight 0")
        return weights

    def __call__(
        self,
        model: Callable[..., Output],
        clean: Any,
        noisy: Sequence[Any],
        task_loss: Callable[[Output], Tensor] | None,
        step: int | None = None,
        global_batch_size: float | None = None,
        sample_weight: float = 1.0,
        targets: Output | None = None,
    ) -> Terms:
        """The views that carry weight through the model, in one pass unless passes="separate", then the terms.

        model: returns Output. clean and each of the K >= 1 noisy copies: a tensor, tuple or dict, given to the model
        as model(x), model(*x) or model(**x). task_loss(view: Output) -> scalar mean over the view's samples; None for
        samples without labels, on which the distance alone is taken. global_batch_size: number of samples that the sums
        of distances are divided by, where these samples are one part of a batch; the parts may be uneven, and their
        terms sum to those of the batch. sample_weight: factor on every term, 0 for samples that a process runs only to
        join the others. targets: what noisy copies are compared with in place of the clean view's own activations, such
        as those of an EMA teacher on the clean view (irl.EMA).
        """
        if not isinstance(noisy, (list, tuple)):
            raise ValueError(f"noisy must be a list of noisy copies, [noisy] for one, got {type(noisy).__name__}")
        if targets is not None and self.pairs not in ("clean", "all"):
            raise ValueError(f"targets take the place of the clean view, which pairs={self.pairs!r} does not compare")
        if self.needs_noisy and not noisy:
            raise ValueError("beta or gamma is positive, but no noisy copy was given")
        views = ([clean] if self._forwards_clean(targets) else []) + (list(noisy) if self.needs_noisy else [])
        outputs = run_views(model, views, self.passes, self.batch_norm)
        terms = self.terms(outputs, task_loss, step, global_batch_size, sample_weight, targets)
        if task_loss is None and distributed.is_available() and distributed.is_initialized():
            # Weights above the layers join the reduction of gradients too: DDP and FSDP wait for each of them.
            terms = terms._replace(total=terms.total + no_gradient_of(outputs))
        return terms

    def terms(
        self,
        views: Sequence[Output],
        task_loss: Callable[[Output], Tensor] | None,
        step: int | None = None,
        global_batch_size: float | None = None,
        sample_weight: float = 1.0,
        targets: Output | None = None,
    ) -> Terms:
        """The terms from outputs that exist already: the clean view first if `needs_clean`, then the noisy ones. With
        targets, the clean view is there only if alpha is positive."""
        clean, noisy = (views[0], views[1:]) if self._forwards_clean(targets) else (None, views)
        zero = views[0].logits.new_zeros(()) if isinstance(views[0].logits, Tensor) else torch.zeros(())
        clean_loss = noisy_loss = zero
        if task_loss is not None and clean is not None and self.alpha > 0:
            clean_loss = sample_weight * task_loss(clean)
        if task_loss is not None and noisy and self.beta > 0:
            noisy_loss = sample_weight * torch.stack([task_loss(view) for view in noisy]).mean()
        total = self.alpha * clean_loss + self.beta * noisy_loss
        gamma = self.gamma_at(step)
        terms = Terms(total, clean_loss, noisy_loss, zero, {}, {}, gamma)
        if gamma > 0:
            dist, per_layer, parts = self.compare(targets or clean, noisy, global_batch_size, sample_weight)
            named = [view.named() for view in views]
            check_gradient(total, dist, {name: [values[name] for values in named] for name in per_layer})
            terms = terms._replace(total=total + gamma * dist, dist=dist, per_layer=per_layer, parts=parts)
        if self.variance > 0 or self.covariance > 0:
            return self._regularised(terms, views, global_batch_size, sample_weight)
        return terms

    def _regularised(self, terms: Terms, views: Sequence[Output], size: float | None, sample_weight: float) -> Terms:
        """With the terms of VICReg; a part of a batch has its share of the samples in them."""
        layers = self.layer_weights(list(views[0].named()), list(views[0].hidden))
        variance, covariance = (sample_weight * term for term in regularisers(views, layers, size))
        total = terms.total + self.variance * variance + self.covariance * covariance
        return terms._replace(total=total, extra={**terms.extra, "variance": variance, "covariance": covariance})

    def compare(
        self,
        clean: Output | None,
        noisy: Sequence[Output],
        global_batch_size: float | None = None,
        sample_weight: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """(dist, per_layer, parts) of `Terms`; usable alone to measure distances under torch.no_grad()."""
        views = ([] if clean is None else [clean]) + list(noisy)
        named = [view.named() for view in views]
        if any(values.keys() != named[0].keys() for values in named):
            found = " and ".join(str(list(view.hidden)) for view in views)
            raise ValueError(f"the views have different layers, {found}: rename them by view._replace(hidden={{...}})")
        weights = self.layer_weights(list(named[0]), list(views[0].hidden))
        # Layers that a pass skipped are not compared in this step.
        weights = {n: w for n, w in weights.items() if all(values[n] is not None for values in named)}
        if not weights:
            return torch.zeros(()), {}, {}
        pairs = pairs_of(self.pairs, clean, noisy, weights)
        means: dict[str, Tensor] = {}
        for of_logits in (False, True):
            distance = self.distance.only(of_logits)
            if distance is None:
                continue
            settings = (self.over, global_batch_size, sample_weight, of_logits, self.normalise == "instance")
            compared = [
                compared_vectors((a, b), layer, self.stop_grad if a is clean else "none", *settings)
                for layer in weights
                for a, b in pairs
            ]
            means |= averages(distance, compared, len(weights))
        # All layers at once: a GPU takes less time for such operations than a CPU takes to launch them.
        per_layer = self.distance.combine(means)
        dist = (constant(tuple(weights.values()), per_layer.device, per_layer.dtype) * per_layer).sum()
        by_layer = {name: dict(zip(weights, values.unbind())) for name, values in {**means, "": per_layer}.items()}
        return dist, by_layer.pop(""), by_layer
