"""A noise as one call, and several of them composed: what `irl.noise` offers to other people's code.

The functions that make them are in `wave_functions`, `image_functions` and `word_functions`; the noises themselves are
those of the recipes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.epoch import SharedEpoch, as_epoch
from irl.core.fingerprint import content_fingerprint
from irl.core.logging import logger
from irl.core.rng import Keys, example_ids


class Inputs(NamedTuple):
    """What a noise takes. name, shapes: how errors call it and write its shapes. dims: dimensions of a batch. remedy:
    what to do where whole numbers are given for floating-point ones, or the reverse."""

    name: str
    dims: int
    shapes: str
    floating: bool = True
    remedy: str = ""


WAVES = Inputs("waves", 2, "(T,) or (N, T)", remedy="; divide 16-bit samples by 32768")
IMAGES = Inputs("images", 4, "(C, H, W) or (N, C, H, W)", remedy="; of bytes make x.float(), with scale=255")
TOKENS = Inputs("token ids", 2, "(T,) or (N, T)", floating=False)


class NoiseFunction(ABC):
    """noise(x, lens=None, ids=None, epoch=None, copy=1, seed=0, y=None) -> a noisy copy of x, which is not written.

    x: one example or a batch, a tensor or an array (lists become arrays): waves (T,) or (N, T), floating-point
    samples in [-1, 1]; images (C, H, W) or (N, C, H, W); token ids (T,) or (N, T). The copy has x's type, dtype and
    device, and carries no gradient.
    lens: valid lengths of waves and tokens, whole numbers (N,); padding does not count. None: no padding.
    ids: of the examples, strings or whole numbers (N,). Draws are a function of (seed, epoch, id, copy): the same in
    any batch, order, worker and restart. None: a hash of the example itself, so that equal examples get equal noise (on
    a GPU this waits for x).
    epoch: None is that of the last `set_epoch`, which workers see too, 0 at first.
    copy: number of the copy, for several of one example. y: labels (N,), which attacks look at.

    a | b is b after a. Noises can be pickled, and copied. Raises ValueError for inputs of another kind or shape.
    """

    inputs: Inputs
    rate: int | None = None  # sampling rate of waves in Hz, where the noise depends on it

    def __init__(self) -> None:
        self._epoch = SharedEpoch()
        # What was drawn first in an epoch that no call named: drawn again, the epoch has likely not been set.
        self._first: tuple[int, ...] = ()
        self._warned = False

    def set_epoch(self, epoch: int) -> None:
        """The epoch of later calls that name none, in this process and in workers that it has already started."""
        self._epoch.set(epoch)

    def __or__(self, other: NoiseFunction) -> NoiseFunction:
        return Chain([self, other]) if isinstance(other, NoiseFunction) else NotImplemented

    def __call__(
        self,
        x: Any,
        lens: Any = None,
        ids: Any = None,
        epoch: int | None = None,
        copy: int = 1,
        seed: int = 0,
        y: Any = None,
    ) -> Any:
        batch = self._batch(x)
        single = batch.dim() == self.inputs.dims - 1
        batch = batch[None] if single else batch
        lengths = self._lens(lens, batch)
        found = _content_ids(batch, lengths) if ids is None else example_ids(ids)
        if len(found) != len(batch):
            raise ValueError(f"ids: expected {len(batch)}, one for each example, found {len(found)}")
        if not 0 <= copy < 2**32:
            raise ValueError(f"copy: expected a whole number from 0 on, found {copy!r}")
        when = self._epoch.get() if epoch is None else as_epoch(epoch)
        if epoch is None and len(found):
            self._notice(found, when, int(copy), int(seed))
        keys = Keys(found.to(batch.device), int(seed), "noise", when, int(copy))
        labels = None if y is None else torch.as_tensor(y, device=batch.device).reshape(-1)
        with torch.no_grad():
            noisy = self.apply(batch, lengths, keys, labels)
        noisy = noisy[0] if single else noisy
        return noisy.to(x.dtype) if isinstance(x, Tensor) else noisy.numpy().astype(_array(x).dtype, copy=False)

    def _notice(self, ids: Tensor, *address: int) -> None:
        """Warn, once, where an example is drawn for again."""
        if self._warned or self._first[1:] != address:
            self._first = (int(ids[0]), *address) if self._first[1:2] != address[:1] else self._first
        elif bool((ids == self._first[0]).any()):
            self._warned = True
            logger.warning(
                "an example gets the noise of epoch %d again: give epoch= to the call, or call set_epoch(epoch) of the "
                "noise before each epoch; where the noise shall stay the same, give epoch=0",
                address[0],
            )

    @abstractmethod
    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None) -> Tensor:
        """A noisy copy of a batch: float32 or int64, as `inputs` says. lens: int64 (N,) on the CPU, of images zeros."""

    def _batch(self, x: Any) -> Tensor:
        """float32, or int64, of an example or a batch; checks kind and shape."""
        name, dims, shapes, floating, remedy = self.inputs
        if not isinstance(x, Tensor):
            array = np.ascontiguousarray(_array(x))
            x = torch.from_numpy(array if array.flags.writeable else array.copy()) if array.dtype != object else None
        if x is None or x.dim() not in (dims - 1, dims):
            raise ValueError(f"expected {name} {shapes}, found {'ragged lists' if x is None else list(x.shape)}")
        if x.is_floating_point() != floating:
            kind = "floating-point" if floating else "whole"
            raise ValueError(f"expected {name} of {kind} numbers, found {x.dtype}{remedy}")
        return x.detach().to(torch.float32 if floating else torch.int64)

    def _lens(self, lens: Any, batch: Tensor) -> Tensor:
        n, longest = len(batch), batch.shape[1] if self.inputs.dims == 2 else 0
        if lens is None:
            return torch.full((n,), longest)
        found = torch.as_tensor(lens).reshape(-1).cpu()
        whole = not found.is_floating_point() and found.dtype != torch.bool
        if self.inputs.dims != 2 or not whole or len(found) != n or not bool(((found >= 0) & (found <= longest)).all()):
            most = f"whole numbers ({n},) from 0 to {longest}" if self.inputs.dims == 2 else "none for images"
            raise ValueError(f"lens: expected {most}, found {lens!r:.80}")
        return found.to(torch.int64)


def _array(x: Any) -> np.ndarray:
    """Lists of numbers as float32 or int64, lists that are ragged as objects."""
    if isinstance(x, np.ndarray):
        return x
    try:
        found = np.asarray(x)
    except ValueError:
        return np.array(None)
    return found.astype(np.float32) if found.dtype == np.float64 else found


def _content_ids(batch: Tensor, lens: Tensor) -> Tensor:
    """A 63-bit hash of each example's values, without padding, (N,)."""
    rows = batch.cpu().numpy()
    values = [row[:n] if row.ndim == 1 else row for row, n in zip(rows, lens.tolist())]
    return torch.tensor([int(content_fingerprint([np.ascontiguousarray(v).tobytes()]), 16) >> 1 for v in values])


class _Composed(NoiseFunction):
    def __init__(self, parts: Sequence[NoiseFunction]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        kinds = list(dict.fromkeys(part.inputs.name for part in self.parts))
        rates = list(dict.fromkeys(part.rate for part in self.parts if part.rate is not None))
        if len(kinds) > 1:
            raise ValueError(f"noises of {kinds[0]} and of {kinds[1]} cannot be composed")
        if len(rates) > 1:
            raise ValueError(f"rate: the composed noises have {rates[0]} and {rates[1]} Hz, expected one rate")
        self.inputs, self.rate = self.parts[0].inputs, rates[0] if rates else None


class Chain(_Composed):
    """Noises one after another, each with draws of its own."""

    def __init__(self, parts: Sequence[NoiseFunction]) -> None:
        super().__init__([one for part in parts for one in (part.parts if isinstance(part, Chain) else (part,))])

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None) -> Tensor:
        for i, part in enumerate(self.parts):
            x = part.apply(x, lens, keys.sub(str(i)), y)
        return x


class OneOf(_Composed):
    """One of several noises for each example, with equal probability."""

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None) -> Tensor:
        which = keys.sub("kind").integers(1, len(self.parts))[:, 0]
        noisy = torch.empty_like(x)
        for j, part in enumerate(self.parts):
            rows = (which == j).nonzero()[:, 0]
            if len(rows):
                own = replace(keys, ids=keys.ids[rows]).sub(str(j))
                noisy[rows] = part.apply(x[rows], lens[rows.cpu()], own, None if y is None else y[rows])
        return noisy


def one_of(*noises: NoiseFunction) -> NoiseFunction:
    """One of the noises for each example, with equal probability; they may be composed themselves."""
    if not noises or not all(isinstance(noise, NoiseFunction) for noise in noises):
        raise ValueError(f"one_of: expected noises of irl.noise, found {noises!r:.80}")
    return OneOf(noises)
