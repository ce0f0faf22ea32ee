"""The Kullback-Leibler divergence of the distributions of two tensors of logits (..., V), in nats.

With r = log q - log p, KL(p || q) = sum p (exp(r) - 1 - r) and KL(p || q) + KL(q || p) = sum (q - p) r. Their summands
are all positive; sum p (-r) cancels when p ~ q. Over the vocabulary of a language model autograd would keep some twenty
tensors as large as the logits, and read each from memory. On a CPU value and gradient are taken together, by blocks of
rows that fit into its cache.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import Any, Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from irl.objective.pair_sums import transformed, wide, with_signature

# Where |r| is smaller, exp(r) - 1 - r is taken from its series.
SMALL = 0.02
# Where r is larger, exp(r) may overflow although p exp(r) does not.
LARGE = 60.0
# Numbers in a block of rows.
BLOCK = 1 << 16


def divergence(a: Tensor, b: Tensor, symmetric: bool, detach_target: bool) -> Tensor:
    """KL(softmax(a) || softmax(b)), (..., V) each -> (...). symmetric: the mean of both directions. detach_target: the
    distribution on the left of the bars is a constant. Logits of -inf exclude a class."""

    def plain(a: Tensor, b: Tensor) -> Tensor:
        forward = _one_way(a.detach() if detach_target else a, b)
        return (forward + _one_way(b.detach() if detach_target else b, a)) / 2 if symmetric else forward

    a, b = wide(a), wide(b)
    if detach_target and not symmetric:
        a = a.detach()
    if not torch.is_grad_enabled():
        a, b = a.detach(), b.detach()
    if not _by_blocks(a, b):
        return plain(a, b)
    value: Tensor = _Divergence.apply(a, b, symmetric, detach_target, plain)
    return value


def _by_blocks(a: Tensor, b: Tensor) -> bool:
    """Whether `_Divergence` can take it: nothing is compiled, traced or transformed, and no logits are -inf."""
    if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None or transformed():
        return False
    if a.device.type != "cpu" or a.shape != b.shape or a.dtype != b.dtype or not a.numel():
        return False
    return math.isfinite(float(a.detach().sum()) + float(b.detach().sum()))


def _one_way(a: Tensor, b: Tensor) -> Tensor:
    log_p = F.log_softmax(a, dim=-1)
    # Classes that logits of -inf exclude from p: log q - log p is not defined there, and q is what is left of it.
    gone = a == -math.inf
    difference = b.masked_fill(gone, 0) - a.masked_fill(gone, 0)
    log_q = torch.where(gone, b - torch.logsumexp(a, dim=-1, keepdim=True), log_p + difference)
    # log q - log p = (b - a) - (lse(b) - lse(a)), and lse(b) - lse(a) = lse(log p + b - a): no large terms.
    shift = torch.logsumexp(log_q, dim=-1, keepdim=True)
    r = difference - shift
    p = log_p.exp()
    # p exp(r) is written exp(log p + r): where p underflows, exp(r) may overflow.
    summands = torch.where(r.abs() < SMALL, p * _series(r), (log_p + r).exp() - p * (1 + r))
    return torch.where(gone, (log_q - shift).exp(), summands).sum(-1)


def _series(r: Tensor) -> Tensor:
    """exp(r) - 1 - r where |r| < SMALL, 0 elsewhere."""
    t = torch.where(r.abs() < SMALL, r, 0.0)
    return t * t * (0.5 + t * (1 / 6 + t * (1 / 24 + t / 120)))


@with_signature
class _Divergence(torch.autograd.Function):
    """The gradient of KL(p || q) is q - p by the logits of q, and -p (r + KL(p || q)) by those of p."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, a: Tensor, b: Tensor, symmetric: bool, detach_target: bool, plain: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        value = a.new_empty(a.shape[:-1])
        needs = ctx.needs_input_grad[:2]
        slopes = [
            torch.empty_like(x, memory_format=torch.contiguous_format) if need else None
            for x, need in zip((a, b), needs)
        ]
        rows = max(1, BLOCK // max(1, a.shape[-1]))
        parts = [x.reshape(-1, a.shape[-1]).split(rows) for x in (a, b)]
        outs = [repeat(None) if x is None else x.view(-1, a.shape[-1]).split(rows) for x in slopes]
        for x, y, out, slope_x, slope_y in zip(*parts, value.view(-1).split(rows), *outs):
            _block(x, y, out, slope_x, slope_y, symmetric, detach_target)
        ctx.plain = plain
        ctx.save_for_backward(a, b, *slopes)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, *slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # With create_graph=True.
            # One may be computed from the other: as views of their own, each has its own share of the gradient.
            x, y = a.view_as(a), b.view_as(b)
            wanted = [z for z, slope in zip((x, y), slopes) if slope is not None]
            made = iter(torch.autograd.grad(ctx.plain(x, y), wanted, grad, create_graph=True))
            found = [None if slope is None else next(made) for slope in slopes]
        else:
            found = [None if slope is None else grad.unsqueeze(-1) * slope for slope in slopes]
        return (*found, None, None, None)


def _block(
    a: Tensor, b: Tensor, value: Tensor, slope_a: Tensor | None, slope_b: Tensor | None, symmetric: bool, detached: bool
) -> None:
    """Writes the divergence of rows (R, V) into value (R,), and its gradients by a and b."""
    log_p = F.log_softmax(a, dim=-1)
    r = b - a
    r -= torch.logsumexp(log_p + r, dim=-1, keepdim=True)
    p = log_p.exp()
    e = torch.expm1(r).mul_(p)
    if (r > LARGE).any():
        e = torch.where(r > LARGE, (log_p + r).exp_() - p, e)
    # q sums to 1 up to rounding, which is not small beside a small r: what is too much is taken off.
    excess = e.sum(-1, keepdim=True)
    r -= excess
    e.addcmul_(excess, p + e, value=-1)
    if symmetric:
        value.copy_((e * r).sum(-1) / 2)
    else:
        value.copy_(torch.where(r.abs() < SMALL, p * _series(r), e - p * r).sum(-1))
    if slope_a is not None:
        slope_a.zero_() if detached else torch.mul(p, r - (p * r).sum(-1, keepdim=True), out=slope_a).neg_()
        if symmetric:
            slope_a.sub_(e).div_(2)
    if slope_b is not None:
        slope_b.copy_(e)
        if symmetric:
            if not detached:
                q = p + e
                slope_b.addcmul_(q, r - (q * r).sum(-1, keepdim=True))
            slope_b.div_(2)
