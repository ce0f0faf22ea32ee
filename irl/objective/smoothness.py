"""Smoothness under a small Gaussian noise xi ~ N(0, Sigma) on the input, from derivatives instead of noisy copies:

    Lambda_R = sum_l gamma_l tr(J_l Sigma J_l^T),   J_l = d a_l / d x,   the limit of E |a_l(x + xi) - a_l(x)|^2
    Omega_R  = 1/2 sum_j y_j (grad_x log f_j)^T Sigma (grad_x log f_j)

(Salazar et al. 2018, section 2.2; Omega_R as in Roth et al. 2018.) Three ways to have them, each a sum of squares:

    "forward": |J_l xi|^2 for drawn xi. One pass gives every layer. Unbiased; its variance for a sample and a draw is
               2 tr((J_l Sigma J_l^T)^2).
    "reverse": D |Sigma^(1/2) J_l^T v|^2 for drawn v, even on the unit sphere of a layer's D units (Hoffman et al.
               2019). One backward pass a layer. Unbiased; variance 2 (D tr(M^2) - tr(M)^2) / (D + 2), with
               M = J_l Sigma J_l^T.
    "exact":   one backward pass for every unit: for small models and references.

Values belong to a sample alone while samples do not see each other: put batch norm into eval mode. With gradients
enabled all three can be differentiated by the weights, and used as terms of a loss.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Literal, Mapping, Sequence, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from irl.core.output import Output, call, lens_to_mask, tree_map
from irl.objective.covariance import Isotropic, Sigma, standard_normal
from irl.objective.forward_mode import forward_mode_kernels, twice_differentiable_kernels
from irl.objective.irl_loss import IRLLoss
from irl.objective.pair_sums import wide

Method = Literal["forward", "reverse", "exact"]
METHODS = get_args(Method)


def _split(inputs: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """What varies, the tensor or the first of a tuple, and the inputs with another in its place."""
    if isinstance(inputs, Tensor):
        return inputs, lambda x: x
    return inputs[0], lambda x: (x, *inputs[1:])


def push_forward(model: Callable[..., Output], inputs: Any, tangents: Sequence[Tensor]) -> tuple[Output, list[Output]]:
    """The model's output and, for each tangent of the input's shape, its directional derivative J tangent: an Output
    of the same names. inputs: a tensor, or a tuple of which the first varies.

    A model with a method `push_forward(x, tangents (M, N, ...))` takes all of them through itself at once; others run
    on dual tensors.
    """
    x, whole = _split(inputs)
    # Of its own, not of a model within it.
    by_hand: Any = model if hasattr(type(model), "push_forward") else None
    if by_hand is not None and isinstance(inputs, Tensor):
        value, moved = by_hand.push_forward(x, torch.stack(list(tangents)))
        return value, [tree_map(lambda t, i=i: t[i], moved) for i in range(len(tangents))]
    both = [_dual(model, whole, x, tangent) for tangent in tangents]
    return both[0][0], [moved for _, moved in both]


def _dual(
    model: Callable[..., Output], whole: Callable[[Tensor], Any], x: Tensor, tangent: Tensor
) -> tuple[Output, Output]:
    """One tangent, on dual tensors."""
    with forward_ad.dual_level(), forward_mode_kernels(model):
        output = call(model, whole(forward_ad.make_dual(x.contiguous(), tangent)))

        def part(index: int) -> Output:
            def take(h: Tensor) -> Tensor:
                pair = forward_ad.unpack_dual(h)
                return pair.primal if index == 0 else torch.zeros_like(h) if pair.tangent is None else pair.tangent

            mapped = tree_map(take, output._replace(lens={}))
            return mapped._replace(lens=output.lens)

        return part(0), part(1)


def squares(h: Tensor, lens: Tensor | None) -> Tensor:
    """Sum of squares of each sample of (N, ...); with lengths, (N, T, ...), the mean over its valid frames -> (N,)."""
    each = h.flatten(1) if lens is None else h.flatten(2)
    total = wide(each).square().sum(-1)
    if lens is None:
        return total
    mask = lens_to_mask(lens.to(h.device), h.shape[1])
    return (total * mask).sum(1) / lens.to(total).clamp(min=1)


def lambda_r(
    model: Callable[..., Output],
    inputs: Any,
    sigma: Sigma = Isotropic(),
    method: str = "forward",
    draws: int = 1,
    layers: Mapping[str, float] | Sequence[str] | None = None,
    from_layer: str | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """tr(J_l Sigma J_l^T) of each layer, before its weight gamma_l, and each sample, (N,) by name; of a layer with
    lengths the mean over a sample's valid frames, as distances are taken. layers, from_layer: as in IRLLoss."""
    _check(method, draws)
    x, whole = _split(inputs)
    chosen = IRLLoss(layers=layers, from_layer=from_layer)
    if method == "forward":
        sums: dict[str, Tensor] = {}
        for moved in push_forward(model, inputs, [sigma.draw(x, generator) for _ in range(draws)])[1]:
            named = moved.named()
            for name in chosen.layer_weights(list(named), list(moved.hidden)):
                sums[name] = sums.get(name, 0) + squares(named[name], moved.lens.get(name))
        return {name: total / draws for name, total in sums.items()}
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        with twice_differentiable_kernels(model):
            output = call(model, whole(x))
        named = output.named()
        found = {}
        for name in chosen.layer_weights(list(named), list(output.hidden)):
            h, lens = named[name], output.lens.get(name)
            units = h[0].numel() if lens is None else h[0, 0].numel()
            ways = _units(h, lens) if method == "exact" else _sphere(h, lens, draws, generator)
            found[name] = _pulled_back(h, x, ways, sigma, keep, units if method == "reverse" else 1)
            if method == "reverse":
                found[name] = found[name] / draws
            elif lens is not None:
                found[name] = found[name] / lens.to(h).clamp(min=1)
    return found


def omega_r(
    model: Callable[..., Output],
    inputs: Any,
    target: Tensor,
    sigma: Sigma = Isotropic(),
    method: str = "forward",
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """1/2 sum_j y_j (grad log f_j)^T Sigma (grad log f_j) of each sample (N,), f = softmax(logits (N, C)).

    target: classes (N,) or probabilities (N, C). "reverse" draws nothing: for classes it is one backward pass, exact,
    the penalty of Roth et al. (2018); for probabilities one a class, as "exact" is.
    """
    _check(method, draws)
    x, whole = _split(inputs)
    if method == "forward":
        value, pushed = push_forward(model, inputs, [sigma.draw(x, generator) for _ in range(draws)])
        logits = value.logits
        if target.dim() == 1:
            target = F.one_hot(target, logits.shape[1]).to(logits)
        p = logits.softmax(-1)
        # d log f_j = t_j - sum_k p_k t_k
        moved = [m.logits - (p * m.logits).sum(-1, keepdim=True) for m in pushed]
        return 0.5 * sum((target * t.square()).sum(-1) for t in moved) / draws
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        with twice_differentiable_kernels(model):
            log_f = call(model, whole(x)).logits.log_softmax(-1)
        weights = target if target.dim() == 2 else None
        if weights is None:
            picked = log_f.gather(1, target[:, None])
            return 0.5 * _pulled_back(picked, x, _units(picked, None), sigma, keep)
        total = torch.zeros_like(log_f[:, 0])
        for j, way in enumerate(_units(log_f, None)):
            total = total + weights[:, j] * _pulled_back(log_f, x, [way], sigma, keep)
        return 0.5 * total


def half_curvature(
    model: Callable[..., Output],
    inputs: Any,
    target: Tensor,
    sigma: Sigma = Isotropic(),
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """1/2 tr(Sigma Hess CE) of each sample (N,), the second-order term of E CE(x + xi) itself, from xi^T Hess CE xi / 2
    for drawn xi: unbiased, with gradients through two backward passes. target: classes (N,) or probabilities (N, C).

    It is Omega_R - 1/2 sum_j y_j tr(Sigma Hess f_j) / f_j: Omega_R alone where y = f(x), not for other labels.
    """
    _check("forward", draws)
    x, whole = _split(inputs)
    keep = torch.is_grad_enabled()
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        with twice_differentiable_kernels(model):
            logits = call(model, whole(x)).logits
        loss = F.cross_entropy(logits, target, reduction="sum")
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        for _ in range(draws):
            xi = sigma.draw(x.detach(), generator)
            (bent,) = torch.autograd.grad(slope, x, xi, retain_graph=True, create_graph=keep)
            total = total + 0.5 * (bent * xi).flatten(1).sum(1) / draws
    return total


def _check(method: str, draws: int) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")


def _units(h: Tensor, lens: Tensor | None) -> Iterator[Tensor]:
    """Directions of the shape of h: one unit of every sample at once, those of padding left out."""
    for j in range(h[0].numel()):
        way = torch.zeros_like(h, memory_format=torch.contiguous_format)
        way.view(len(h), -1)[:, j] = 1
        yield _without_padding(way, lens)


def _sphere(h: Tensor, lens: Tensor | None, draws: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Directions even on the unit sphere of each sample's (valid) units."""
    for _ in range(draws):
        way = _without_padding(standard_normal(h, generator), lens)
        yield way / way.flatten(1).norm(dim=1).view(-1, *[1] * (h.dim() - 1))


def _without_padding(way: Tensor, lens: Tensor | None) -> Tensor:
    if lens is None:
        return way
    mask = lens_to_mask(lens.to(way.device), way.shape[1])
    return way * mask.view(*mask.shape, *[1] * (way.dim() - 2))


def _pulled_back(
    h: Tensor, x: Tensor, ways: Iterator[Tensor] | Sequence[Tensor], sigma: Sigma, keep: bool, factor: float = 1.0
) -> Tensor:
    """The sum over directions v of factor * (J^T v)^T Sigma (J^T v), (N,). keep: to be differentiated again."""
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for way in ways:
        (g,) = torch.autograd.grad(h, x, way, retain_graph=True, create_graph=keep)
        total = total + factor * sigma.quadratic(g)
    return total
