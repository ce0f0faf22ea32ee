"""Several processes that train one model, begun by torchrun or srun (see `irl.fabric.build`): what each takes of every
batch, and what they tell each other. Alone a process takes everything, and the rest does nothing.

A batch is the same examples with the same draws however many processes there are. Each computes its part of every mean
over the batch, the sum over its own examples divided by the size of the whole, so that a sum over processes is all that
is left to do, uneven parts included.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Iterable, Iterator, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from irl.errors import UserError

T = TypeVar("T")


class Whole(NamedTuple):
    """The size of a batch of all processes: its examples, and what the task loss is a mean over, such as tokens."""

    rows: float
    targets: float


class Part(NamedTuple):
    """Of things in a row one takes the rank-th and every of-th after it: neighbours are alike in length."""

    rank: int = 0
    of: int = 1

    def take(self, things: Any) -> Any:
        return things[self.rank :: self.of]

    def batch(self, rows: list[int], targets: float) -> tuple[list[int], Whole]:
        """This part of a batch, and the size of the whole, which has so many targets.

        A process for which nothing is left takes the first row, of which everything counts as nothing: it has to
        come to the sum of the gradients with the others.
        """
        own = self.take(rows)
        if not own:
            return rows[:1], Whole(math.inf, math.inf)
        return own, Whole(len(rows), targets)


def _alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def total(x: Tensor) -> Tensor:
    """Sum over all processes, whose tensors have one shape."""
    if _alone():
        return x
    found = x.to(_device(), copy=True)
    distributed.all_reduce(found)
    return found.to(x.device)


def highest(value: int) -> int:
    if _alone():
        return value
    found = torch.tensor(value, device=_device())
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def gathered(value: T) -> list[T]:
    """What each process has, in the order of ranks."""
    if _alone():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, such as by reading a file, for all."""
    if _alone():
        return make()
    found: list[Any] = [make() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


def wait() -> None:
    """Until all processes are here."""
    if not _alone():
        distributed.barrier()


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def share_first(tensors: Iterable[Tensor]) -> None:
    """Gives all processes the values of the first."""
    if not _alone():
        for x in tensors:
            distributed.broadcast(x, 0)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Where another process has gone, its own error is the one that matters. Raises UserError that says so."""
    try:
        yield
    except RuntimeError as error:
        if _alone() or not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        rank, of = distributed.get_rank(), distributed.get_world_size()
        raise UserError(f"process {rank} of {of}: another has gone; its own error tells why") from None
