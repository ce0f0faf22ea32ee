"""The four sums over the units of a pair of vectors from which L2 and cosine distances follow,

    d2 = sum (a - b)^2,   aa = sum a^2,   bb = sum b^2,   s = sum (a - b)(a + b) = aa - bb,

taken in one pass that keeps no difference tensor. None of them cancels when a ~ b.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol, Sequence, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from irl.core.gpu import kernels_for

# Units from which on a sum of squares needs torch's careful summation.
LONG = 4096
# (d2, aa, bb, s) as above.
Sums = tuple[Tensor, Tensor, Tensor, Tensor]


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _squares(x: Tensor) -> Tensor:
    """sum of x^2 over the last dimension. A norm reads its tensor once and keeps no product, and costs half of the sum
    of squares on a CPU, but it adds up one by one and loses digits over long vectors."""
    return torch.linalg.vector_norm(x, dim=-1).square() if x.shape[-1] <= LONG else (x * x).sum(-1)


def _pair_sums(a: Tensor, b: Tensor) -> Sums:
    a, b = wide(a), wide(b)
    d = a - b
    d2, aa, bb = (_squares(x) for x in (d, a, b))
    return d2, aa, bb, (d * (a + b)).sum(-1)


Function = TypeVar("Function", bound=type[torch.autograd.Function])


def with_signature(function: Function) -> Function:
    """Keeps the signature of `forward`, which torch otherwise finds out in every call: 60 microseconds."""
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function


@with_signature
class PairSums(torch.autograd.Function):
    """(d2, aa, bb, s) of two tensors (..., D), each (...). Saves the pair itself, which autograd holds anyway.

    Backward: grad_a = 2 g_d2 (a - b) + 2 (g_aa + g_s) a and grad_b = -2 g_d2 (a - b) + 2 (g_bb - g_s) b.
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Sums:  # type: ignore[override]
        return _pair_sums(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        g_d2, g_aa, g_bb, g_s = (2 * g.unsqueeze(-1) for g in grads)
        wa, wb = wide(a), wide(b)
        pull = g_d2 * (wa - wb)
        grad_a = torch.addcmul(pull, g_aa + g_s, wa).to(a.dtype) if ctx.needs_input_grad[0] else None
        grad_b = ((g_bb - g_s) * wb - pull).to(b.dtype) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Sums:
        a, b = (wide(x) for x in ctx.saved_tensors)
        ta, tb = (torch.zeros_like(x) if t is None else wide(t) for x, t in zip((a, b), tangents))
        d_aa, d_bb = 2 * (a * ta).sum(-1), 2 * (b * tb).sum(-1)
        return 2 * ((a - b) * (ta - tb)).sum(-1), d_aa, d_bb, d_aa - d_bb


def pair_sums(a: Tensor, b: Tensor) -> Sums:
    # A compiler fuses the plain expression by itself, and does not trace functions with a jvp of their own.
    return _pair_sums(a, b) if torch.compiler.is_compiling() else PairSums.apply(a, b)


class OfSums(Protocol):
    """A distance that is a function of the pair sums and the number of units. kernel: as in irl.core.kernels.KINDS."""

    kernel: str

    def from_sums(self, sums: Sums, units: Tensor) -> Tensor: ...


# Types that the kernels for a GPU read.
IN_KERNELS = (torch.float32, torch.bfloat16, torch.float16)


def transformed() -> bool:
    """Whether forward mode or a transformation of torch.func is at work."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def at_once(parts: Sequence[OfSums], pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Distances of vectors (..., D), float32 (K, N_1 M_1 + ...) for K parts, by kernels for a GPU. None where there are
    no kernels: on a CPU, in float64, in forward mode, and for other distances."""
    tensors = [x for pair in pairs for x in pair]
    kernels = kernels_for(tensors[0]) if parts and tensors else None
    if kernels is None or transformed():
        return None
    if not all(part.kernel in kernels.KINDS for part in parts) or any(x.dtype not in IN_KERNELS for x in tensors):
        return None
    if any(a.shape != b.shape or a.dim() < 2 for a, b in pairs):
        return None
    kinds = [kernels.KINDS.index(part.kernel) for part in parts]
    rows = [(a.flatten(0, -2), b.flatten(0, -2)) for a, b in pairs]
    found: Tensor = kernels.distances(kinds, rows, lambda rows: torch.stack(one_by_one(parts, rows)))
    return found


def one_by_one(parts: Sequence[OfSums], pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The same by torch's operations: for each part (N_1 M_1 + ...,)."""
    each = [pair_sums(a, b) for a, b in pairs]
    d2, aa, bb, s = (torch.cat([sums[i].flatten() for sums in each]) for i in range(4))
    units = torch.cat([d2.new_full((sums[0].numel(),), a.shape[-1]) for sums, (a, _) in zip(each, pairs)])
    return [part.from_sums((d2, aa, bb, s), units) for part in parts]
