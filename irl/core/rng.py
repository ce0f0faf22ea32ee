"""Law 1: every random draw is a function of (seed, stream, epoch, example id, copy, position) and of nothing else.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a keyed
bijection of a 128-bit counter. A whole batch is drawn at once: by numpy on a CPU, by Triton on a GPU, by int64 tensors
elsewhere. The key holds (seed, stream, epoch), the counter holds (example id, copy, position). Draws therefore do
not depend on workers, ranks, batch composition or a restart. Integers and uniforms are bit-equal on every
device; normals go through log and cos and agree within 1e-6.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Sequence, TypeVar

import numpy as np
import torch
from torch import Tensor

from irl.core.fingerprint import stable_hash
from irl.core.gpu import kernels_for
from irl.core.output import constant

MASK32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def hash_ids(ids: Sequence[str]) -> Tensor:
    """String ids as an int64 tensor (N,), the form in which they enter the counter."""
    return torch.tensor([stable_hash(str(i)) for i in ids], dtype=torch.int64)


def example_ids(ids: Any) -> Tensor:
    """Ids of examples, strings or whole numbers in any sequence, array or tensor, as an int64 tensor (N,).

    Raises ValueError for other values, such as fractions.
    """
    if not isinstance(ids, Tensor):
        items = ids.reshape(-1).tolist() if isinstance(ids, np.ndarray) else ids
        items = list(items) if hasattr(items, "__iter__") and not isinstance(items, str) else [items]
        if items and all(isinstance(i, str) for i in items):
            return hash_ids(items)
        if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in items):
            raise ValueError(f"ids: expected strings or whole numbers, found {ids!r:.80}")
        return torch.tensor([int(i) for i in items], dtype=torch.int64)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool or ids.dim() > 1:
        raise ValueError(f"ids: expected whole numbers (N,), found {ids.dtype} of shape {list(ids.shape)}")
    return ids.to(torch.int64).reshape(-1)


# int64; a processor works through small numpy arrays several times faster than through tensors.
Words = TypeVar("Words", Tensor, "np.ndarray[Any, Any]")


def philox4x32(counter: Words, key: tuple[Words, Words]) -> Words:
    """Ten rounds of Philox4x32. counter: int64 (4, ...) and key: two of a shape that broadcasts with counter[0], all in
    [0, 2**32) -> int64 (4, ...). The key may be on a CPU and the counter on a GPU, which then need not be waited for.

    Words 0 and 2 are multiplied, and words 1 and 3 mixed in, as pairs. Products wrap; their bits are right.
    """
    stack: Any = np.stack
    flip: Any = lambda x: x[::-1]  # noqa: E731
    on_key: Any = np.array
    if isinstance(counter, Tensor):
        stack, flip = torch.stack, lambda x: x.flip(0)
        on_key = functools.partial(torch.tensor, device=key[0].device)
    shape = [1] * (counter.ndim - 1)
    weyl, rounds = on_key(_WEYL).reshape(2, *shape), on_key(range(10)).reshape(10, 1, *shape)
    schedule: Any = (stack(list(key)) + weyl * rounds) & MASK32
    multipliers: Any = np.array(_MULTIPLIERS)
    if isinstance(counter, Tensor):
        schedule = schedule.to(counter.device, non_blocking=True)
        multipliers = constant(_MULTIPLIERS, counter.device, torch.int64)
    multipliers = multipliers.reshape(2, *shape)
    multiplied, mixed = counter[0::2], counter[1::2]
    for halves in schedule:
        product = multiplied * multipliers
        multiplied = flip((product >> 32) & MASK32) ^ mixed ^ halves
        mixed = flip(product & MASK32)
    found: Words = stack([multiplied[0], mixed[0], multiplied[1], mixed[1]])
    return found


def to_uniform(bits: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """float64, uniform on [low, high), with 2**32 distinct values."""
    return low + (high - low) * (bits.double() * 2.0**-32)


def to_normal(bits: Tensor) -> Tensor:
    """(N, 2n) -> float64 (N, n), standard normal by the Box-Muller transform of pairs of words."""
    words = bits.double().unflatten(1, (-1, 2))
    radius = torch.sqrt(-2.0 * torch.log((words[..., 0] + 1.0) * 2.0**-32))
    return radius * torch.cos(words[..., 1] * (2.0 * torch.pi * 2.0**-32))


@dataclass(frozen=True)
class Keys:
    """The address of the draws of N examples. Draws of different streams, epochs or copies are independent.

    ids: int64 (N,) from `hash_ids` or example numbers, or what `example_ids` takes. Draws are (N, n): row i belongs to
    ids[i] alone.
    """

    ids: Tensor
    seed: int
    stream: str = ""
    epoch: int = 0
    copy: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.ids, Tensor):
            object.__setattr__(self, "ids", example_ids(self.ids))

    def sub(self, stream: str) -> Keys:
        """The keys of a named sub-stream: a noise made of parts gives each part its own."""
        return replace(self, stream=f"{self.stream}/{stream}")

    def bits(self, n: int) -> Tensor:
        """int64 (N, n), uniform on [0, 2**32). Position j of row i does not depend on n."""
        return self._words([self.stream], n)[0]

    def bits_of(self, streams: Sequence[str], n: int) -> Tensor:
        """`sub(stream).bits(n)` of each of S sub-streams, (S, N, n): small draws cost little but their calls."""
        return self._words([f"{self.stream}/{stream}" for stream in streams], n)

    def _words(self, streams: Sequence[str], n: int) -> Tensor:
        """(S, N, n)"""
        seeds = [stable_hash(self.seed, stream, self.epoch) for stream in streams]
        kernels = kernels_for(self.ids)
        if kernels is not None:
            device = self.ids.device
            found: Tensor = kernels.philox(self.ids, torch.tensor(seeds).to(device, non_blocking=True), self.copy, n)
            return found
        ids: Any = self.ids.numpy() if self.ids.is_cpu else self.ids
        on: dict[str, Any] = {} if self.ids.is_cpu else {"device": ids.device}
        xp: Any = np if self.ids.is_cpu else torch
        keys = xp.asarray(seeds)[:, None, None]
        blocks = xp.arange((n + 3) // 4, **on)
        counter = xp.empty((4, len(streams), len(ids), len(blocks)), dtype=xp.int64, **on)
        for word, value in enumerate(((ids & MASK32)[:, None], (ids >> 32 & MASK32)[:, None], blocks, self.copy)):
            counter[word] = value
        words = torch.as_tensor(philox4x32(counter, (keys & MASK32, keys >> 32)))
        return words.movedim(0, -1).flatten(2)[..., :n]

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float64 (N, n), uniform on [low, high), with 2**32 distinct values."""
        return to_uniform(self.bits(n), low, high)

    def integers(self, n: int, high: int | Tensor) -> Tensor:
        """int64 (N, n), uniform on [0, high); high: below 2**31, an integer or int64 (N, 1). Bias < high / 2**32."""
        return (self.bits(n) * high) >> 32

    def normal(self, n: int) -> Tensor:
        """float64 (N, n), standard normal."""
        return to_normal(self.bits(2 * n))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Reseed torch's global generator, which dropout uses, from (seed, step, rank): resuming needs no RNG state."""
    torch.manual_seed(stable_hash("dropout", seed, step, rank))
