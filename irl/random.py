"""Law 1: every random draw is a function of (seed, stream, epoch, example id, copy, position) and of nothing else.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a keyed
bijection of a 128-bit counter, written in int64 tensor arithmetic so that a whole batch is drawn at once on any
device. The key holds (seed, stream, epoch), the counter holds (example id, copy, position). Draws therefore do
not depend on workers, ranks, batch composition or a restart. Integers and uniforms are bit-equal on every
device; normals go through log and cos and agree within 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

import torch
from torch import Tensor

from irl.hashing import stable_hash

MASK32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def hash_ids(ids: Sequence[str]) -> Tensor:
    """String ids as an int64 tensor (N,), the form in which they enter the counter."""
    return torch.tensor([stable_hash(i) for i in ids], dtype=torch.int64)


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a * b, for 0 <= a, b < 2**32. The int64 product wraps; its bits are right."""
    product = b * a
    return (product >> 32) & MASK32, product & MASK32


def philox4x32(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox4x32. counter: four int64 tensors of one shape and key: two integers, all in [0, 2**32)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        hi0, lo0 = _multiply(_MULTIPLIERS[0], c0)
        hi1, lo1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _WEYL[0]) & MASK32, (k1 + _WEYL[1]) & MASK32
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Keys:
    """The address of the draws of N examples. Draws of different streams, epochs or copies are independent.

    ids: int64 (N,) from `hash_ids` or example numbers. Every method returns (N, n): row i belongs to ids[i] alone.
    """

    ids: Tensor
    seed: int
    stream: str = ""
    epoch: int = 0
    copy: int = 0

    def sub(self, stream: str) -> Keys:
        """The keys of a named sub-stream: a noise made of parts gives each part its own."""
        return replace(self, stream=f"{self.stream}/{stream}")

    def bits(self, n: int) -> Tensor:
        """int64 (N, n), uniform on [0, 2**32). Position j of row i does not depend on n."""
        key = stable_hash(self.seed, self.stream, self.epoch)
        blocks = torch.arange((n + 3) // 4, device=self.ids.device)
        shape = (len(self.ids), len(blocks))
        counter = (
            (self.ids & MASK32)[:, None].expand(shape),
            ((self.ids >> 32) & MASK32)[:, None].expand(shape),
            blocks[None].expand(shape),
            torch.full(shape, self.copy, dtype=torch.int64, device=self.ids.device),
        )
        words = torch.stack(philox4x32(counter, (key & MASK32, key >> 32)), dim=-1)
        return words.flatten(1)[:, :n]

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float64 (N, n), uniform on [low, high), with 2**32 distinct values."""
        return low + (high - low) * (self.bits(n).double() * 2.0**-32)

    def integers(self, n: int, high: int | Tensor) -> Tensor:
        """int64 (N, n), uniform on [0, high); high: below 2**31, an integer or int64 (N, 1). Bias < high / 2**32."""
        return (self.bits(n) * high) >> 32

    def normal(self, n: int) -> Tensor:
        """float64 (N, n), standard normal by the Box-Muller transform of pairs of words."""
        words = self.bits(2 * n).double().reshape(len(self.ids), n, 2)
        radius = torch.sqrt(-2.0 * torch.log((words[..., 0] + 1.0) * 2.0**-32))
        return radius * torch.cos(words[..., 1] * (2.0 * torch.pi * 2.0**-32))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Reseed torch's global generator, which dropout uses, from (seed, step, rank): resuming needs no RNG state."""
    torch.manual_seed(stable_hash("dropout", seed, step, rank))
