"""Kernels for GPUs, in Triton. Each replaces many small operations of torch, which take longer to launch than to do.
`irl.core.gpu` says whether they can be used; without them torch gives the same results up to rounding.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor


def _device_of(x: Tensor) -> Any:
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


# Draws


def philox(ids: Tensor, seeds: Tensor, copy: int, n: int) -> Tensor:
    """`irl.core.rng.philox4x32` of the counters (id, block, copy) under keys: int64 ids (N,) and seeds (S,) on one
    device -> int64 (S, N, n)."""
    blocks = (n + 3) // 4
    out = torch.empty((len(seeds), len(ids), 4 * blocks), dtype=torch.int64, device=ids.device)
    if out.numel():
        count = len(ids) * blocks
        with _device_of(ids):
            _philox[(triton.cdiv(count, 256), len(seeds))](ids.contiguous(), seeds, out, copy, count, blocks, 256)
    return out[..., :n]


@triton.jit
def _philox(ids, seeds, out, copy, count, blocks, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    stream = tl.program_id(1).to(tl.int64)
    inside = i < count
    number = tl.load(ids + i // blocks, mask=inside, other=0)
    low, high = (number & 0xFFFFFFFF).to(tl.uint32), ((number >> 32) & 0xFFFFFFFF).to(tl.uint32)
    block = (i % blocks).to(tl.uint32)
    fourth = (tl.zeros_like(i) + copy).to(tl.uint32)
    a, b, c, d = tl.philox(tl.load(seeds + stream), low, high, block, fourth)
    at = out + (stream * count + i) * 4
    tl.store(at, a.to(tl.int64), mask=inside)
    tl.store(at + 1, b.to(tl.int64), mask=inside)
    tl.store(at + 2, c.to(tl.int64), mask=inside)
    tl.store(at + 3, d.to(tl.int64), mask=inside)


# Distances. sums (5, R): of R pairs of vectors d2, aa, bb, s as in irl.objective.pair_sums, and the number of units.

# As in irl.objective.distances, whose tests hold them together.
ZERO = 1e-16
# Units of a vector that one program takes.
LONGEST = 8192
KINDS = ("l2", "l2_squared", "l2_mean", "l2_relative", "cosine", "norms")


Pairs = list[tuple[Tensor, Tensor]]


def distances(kinds: Sequence[int], pairs: Pairs, plain: Callable[[Pairs], Tensor]) -> Tensor:
    """For each kind (an index of KINDS) the distance of all vectors of all pairs (R_i, D_i), one pair after another:
    float32 (K, R_1 + R_2 + ...). plain: the same by torch's operations, for what is to be differentiated twice."""
    values: Tensor = _Distances.apply(tuple(kinds), plain, *(x.contiguous() for pair in pairs for x in pair))
    return values


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, kinds: tuple[int, ...], plain: Callable[[Pairs], Tensor], *tensors: Tensor
    ) -> Tensor:
        rows = sum(len(a) for a in tensors[::2])
        sums = torch.empty((5, rows), dtype=torch.float32, device=tensors[0].device)
        values = torch.empty((len(kinds), rows), dtype=torch.float32, device=sums.device)
        with _device_of(sums):
            first = 0
            for a, b in zip(tensors[::2], tensors[1::2]):
                part = sums[:, first : first + len(a)]
                if a.numel():
                    block = min(LONGEST, max(128, triton.next_power_of_2(a.shape[1])))
                    chunks = triton.cdiv(a.shape[1], block)
                    out = part if chunks == 1 else sums.new_empty((5, len(a), chunks))
                    warps = max(1, min(8, block // 256))
                    _pair_sums[(len(a), chunks)](a, b, out, out.stride(0), a.shape[1], chunks, block, num_warps=warps)
                    if chunks > 1:
                        torch.sum(out, 2, out=part)
                first += len(a)
            for kind, value in zip(kinds, values):
                _value[(triton.cdiv(rows, 256),)](sums, value, rows, kind, ZERO, 256)
        ctx.kinds, ctx.plain = kinds, plain
        ctx.save_for_backward(sums, *tensors)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sums, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            values = ctx.plain(list(zip(tensors[::2], tensors[1::2])))
            given = [x for x, need in zip(tensors, wanted) if need]
            made = iter(torch.autograd.grad(values, given, grad, create_graph=True))
            return None, None, *(next(made) if need else None for need in wanted)
        grad, rows = grad.contiguous(), sums.shape[1]
        slopes = torch.empty((4, rows), dtype=torch.float32, device=sums.device)
        found: list[Tensor | None] = []
        with _device_of(sums):
            for i, kind in enumerate(ctx.kinds):
                _slope[(triton.cdiv(rows, 256),)](sums, grad[i], slopes, rows, kind, i > 0, ZERO, 256)
            first = 0
            for i in range(0, len(tensors), 2):
                a, b = tensors[i : i + 2]
                needs = wanted[i : i + 2]
                into = [torch.empty_like(x) if need else None for x, need in zip((a, b), needs)]
                if a.numel() and any(needs):
                    grid = (len(a), triton.cdiv(a.shape[1], 1024))
                    # A gradient that is not needed is not written.
                    ga, gb = (x if out is None else out for x, out in zip((a, b), into))
                    _pair_slopes[grid](a, b, slopes[:, first:], ga, gb, rows, a.shape[1], *needs, 1024)
                first += len(a)
                found += into
        return None, None, *found


@triton.jit
def _pair_sums(a, b, sums, rows, units, chunks, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    unit = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    x = tl.load(a + row * units + unit, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(b + row * units + unit, mask=inside, other=0.0).to(tl.float32)
    d = x - y
    at = sums + row * chunks + chunk
    tl.store(at, tl.sum(d * d, 0))
    tl.store(at + rows, tl.sum(x * x, 0))
    tl.store(at + 2 * rows, tl.sum(y * y, 0))
    tl.store(at + 3 * rows, tl.sum(d * (x + y), 0))
    tl.store(at + 4 * rows, tl.sum(inside.to(tl.float32), 0))


@triton.jit
def _pair_slopes(  # type: ignore[no-untyped-def]
    a, b, slopes, grad_a, grad_b, rows, units, NEED_A: tl.constexpr, NEED_B: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    g_d2 = 2 * tl.load(slopes + row)
    g_aa = 2 * tl.load(slopes + rows + row)
    g_bb = 2 * tl.load(slopes + 2 * rows + row)
    g_s = 2 * tl.load(slopes + 3 * rows + row)
    at = row * units + unit
    x = tl.load(a + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(b + at, mask=inside, other=0.0).to(tl.float32)
    pull = g_d2 * (x - y)
    if NEED_A:
        tl.store(grad_a + at, (pull + (g_aa + g_s) * x).to(grad_a.dtype.element_ty), mask=inside)
    if NEED_B:
        tl.store(grad_b + at, ((g_bb - g_s) * y - pull).to(grad_b.dtype.element_ty), mask=inside)


@triton.jit
def _value(  # type: ignore[no-untyped-def]
    sums, values, rows, KIND: tl.constexpr, ZERO: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    d2 = tl.load(sums + row, mask=inside, other=0.0)
    aa = tl.load(sums + rows + row, mask=inside, other=0.0)
    bb = tl.load(sums + 2 * rows + row, mask=inside, other=0.0)
    s = tl.load(sums + 3 * rows + row, mask=inside, other=0.0)
    units = tl.load(sums + 4 * rows + row, mask=inside, other=1.0)
    value = d2
    if KIND == 0:
        value = tl.where(d2 > 0, tl.sqrt_rn(d2), 0.0)
    if KIND == 2:
        value = d2 / units
    if KIND == 3:
        valid = aa > ZERO
        norm = tl.where(d2 > 0, tl.sqrt_rn(d2), 0.0)
        value = tl.where(valid, norm / tl.sqrt_rn(tl.where(valid, aa, 1.0)), 0.0)
    if KIND == 4:
        zero_a = aa <= ZERO
        zero_b = bb <= ZERO
        valid = (zero_a | zero_b) == 0
        norm_a = tl.sqrt_rn(tl.where(valid, aa, 1.0))
        norm_b = tl.sqrt_rn(tl.where(valid, bb, 1.0))
        delta = s / (norm_a + norm_b)
        left = d2 - delta * delta
        # A comparison, not a maximum: NaN stays NaN.
        left = tl.where(left < 0, 0.0, left)
        value = tl.where(valid, left / (2 * norm_a * norm_b), (zero_a != zero_b).to(tl.float32))
    if KIND == 5:
        value = (aa + bb) / (2 * units)
    tl.store(values + row, value, mask=inside)


@triton.jit
def _slope(  # type: ignore[no-untyped-def]
    sums, grad, slopes, rows, KIND: tl.constexpr, ADD: tl.constexpr, ZERO: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    g = tl.load(grad + row, mask=inside, other=0.0)
    d2 = tl.load(sums + row, mask=inside, other=0.0)
    aa = tl.load(sums + rows + row, mask=inside, other=0.0)
    bb = tl.load(sums + 2 * rows + row, mask=inside, other=0.0)
    s = tl.load(sums + 3 * rows + row, mask=inside, other=0.0)
    units = tl.load(sums + 4 * rows + row, mask=inside, other=1.0)
    g_d2 = tl.zeros([BLOCK], tl.float32)
    g_aa = tl.zeros([BLOCK], tl.float32)
    g_bb = tl.zeros([BLOCK], tl.float32)
    g_s = tl.zeros([BLOCK], tl.float32)
    if KIND == 0:
        g_d2 = tl.where(d2 > 0, g * 0.5 / tl.sqrt_rn(tl.where(d2 > 0, d2, 1.0)), 0.0)
    if KIND == 1:
        g_d2 = g
    if KIND == 2:
        g_d2 = g / units
    if KIND == 3:
        valid = aa > ZERO
        norm = tl.where(d2 > 0, tl.sqrt_rn(d2), 0.0)
        norm_a = tl.sqrt_rn(tl.where(valid, aa, 1.0))
        g_d2 = tl.where(valid & (d2 > 0), g * 0.5 / (tl.where(d2 > 0, norm, 1.0) * norm_a), 0.0)
        g_aa = tl.where(valid, -0.5 * g * norm / (tl.where(valid, aa, 1.0) * norm_a), 0.0)
    if KIND == 4:
        valid = ((aa <= ZERO) | (bb <= ZERO)) == 0
        norm_a = tl.sqrt_rn(tl.where(valid, aa, 1.0))
        norm_b = tl.sqrt_rn(tl.where(valid, bb, 1.0))
        both = norm_a + norm_b
        delta = s / both
        left = d2 - delta * delta
        value = tl.where(left < 0, 0.0, left) / (2 * norm_a * norm_b)
        # The gradient of the difference d2 - delta^2; it is 0 where the difference is cut off.
        g_left = tl.where(left < 0, 0.0, g / (2 * norm_a * norm_b))
        g_both = g_left * 2 * delta * delta / both
        g_d2 = tl.where(valid, g_left, 0.0)
        g_s = tl.where(valid, -2 * g_left * delta / both, 0.0)
        g_aa = tl.where(valid, (g_both - g * value / norm_a) * 0.5 / norm_a, 0.0)
        g_bb = tl.where(valid, (g_both - g * value / norm_b) * 0.5 / norm_b, 0.0)
    if KIND == 5:
        g_aa = g / (2 * units)
        g_bb = g / (2 * units)
    if ADD:
        g_d2 += tl.load(slopes + row, mask=inside, other=0.0)
        g_aa += tl.load(slopes + rows + row, mask=inside, other=0.0)
        g_bb += tl.load(slopes + 2 * rows + row, mask=inside, other=0.0)
        g_s += tl.load(slopes + 3 * rows + row, mask=inside, other=0.0)
    tl.store(slopes + row, g_d2, mask=inside)
    tl.store(slopes + rows + row, g_aa, mask=inside)
    tl.store(slopes + 2 * rows + row, g_bb, mask=inside)
    tl.store(slopes + 3 * rows + row, g_s, mask=inside)
