"""Several processes that train one model, begun by torchrun or srun (see `build`): each one's shard of a batch, and
the collectives between them. A process alone takes the whole batch, and collectives do nothing.

A batch is the same examples with the same draws however many processes there are. Each process computes its part of
every mean over the batch, the sum over its own examples divided by the size of the global batch. A sum over processes
is then all that is left to do, also where shards are uneven.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from irl.core.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import ClusterEnvironment

T = TypeVar("T")


class BatchTotals(NamedTuple):
    """The size of a batch of all processes: its examples, and what the task loss is a mean over, such as tokens."""

    global_batch_size: float
    targets: float


class Shard(NamedTuple):
    """Of things in a row one takes the rank-th and every of-th after it: neighbours are alike in length."""

    rank: int = 0
    world_size: int = 1

    def take(self, things: Any) -> Any:
        return things[self.rank :: self.world_size]

    def batch(self, rows: list[int], targets: float) -> tuple[list[int], BatchTotals]:
        """This part of a batch, and the size of the whole, which has so many targets.

        A process for which nothing is left takes the first row, of which everything counts as nothing: it has to
        come to the sum of the gradients with the others.
        """
        own = self.take(rows)
        if not own:
            return rows[:1], BatchTotals(math.inf, math.inf)
        return own, BatchTotals(len(rows), targets)


def _alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all processes, whose tensors have one shape."""
    if _alone():
        return x
    found = x.to(_device(), copy=True)
    distributed.all_reduce(found)
    return found.to(x.device)


def all_reduce_max(value: int) -> int:
    if _alone():
        return value
    found = torch.tensor(value, device=_device())
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def all_gather(value: T) -> list[T]:
    """What each process has, in the order of ranks."""
    if _alone():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def broadcast(make: Callable[[], T]) -> T:
    """What the first process makes, such as by reading a file, for all."""
    if _alone():
        return make()
    found: list[Any] = [make() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


def barrier() -> None:
    """Until all processes are here."""
    if not _alone():
        distributed.barrier()


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
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


@contextlib.contextmanager
def _without_torchmetrics() -> Iterator[None]:
    """Lightning Fabric looks up torchmetrics' version by importing it, and with it torchvision: several seconds of
    every start, for a check that only matters to models that hold metrics."""
    absent = "torchmetrics" not in sys.modules
    if absent:
        sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules["torchmetrics"]


def build(accelerator: str, precision: str) -> Fabric:
    """One device, or, begun by torchrun or srun, one for each process, connected: gloo on CPUs, NCCL on GPUs."""
    with _without_torchmetrics():
        from lightning_fabric import Fabric
        from lightning_fabric.plugins import MixedPrecision
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    devices, nodes, environment = _processes()
    cuda = accelerator != "cpu" and torch.cuda.is_available()
    plugins: list[Any] = [environment]
    known: Any = precision
    if precision == "16-mixed":
        # As a plugin, for by name Fabric would make bf16-mixed of it on a CPU.
        plugins.append(MixedPrecision("16-mixed", "cuda" if cuda else "cpu"))
        known = None
        if not cuda:
            torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]  # oneDNN's LSTM knows no float16
    several = devices * nodes > 1
    try:
        fabric = Fabric(
            accelerator=accelerator,
            strategy="ddp" if several else "auto",
            devices=devices,
            num_nodes=nodes,
            precision=known,
            plugins=plugins,
        )
        fabric.launch()
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        where = f" for each of {devices} processes on {nodes} nodes" if several else ""
        raise UserError(f"train.accelerator {accelerator}{where}: {str(error).splitlines()[0]}") from None
    return fabric


def _processes() -> tuple[int, int, ClusterEnvironment]:
    """How many processes of this run each node has, how many nodes there are, and how they know of each other."""
    from lightning_fabric.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local, TorchElasticEnvironment()
    # Of srun alone: a batch script itself is one process, however many its job may begin.
    ranks, nodes = (int(os.environ.get(name, 1)) for name in ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"))
    if ranks % nodes:
        raise UserError(f"srun has begun {ranks} processes on {nodes} nodes; every node must have as many")
    if ranks > 1:
        os.environ.update({"SLURM_NTASKS_PER_NODE": str(ranks // nodes), "SLURM_NNODES": str(nodes)})
        return ranks // nodes, nodes, SLURMEnvironment(auto_requeue=False)
    return 1, 1, LightningEnvironment()


def move_data_to_device(tree: Any, device: torch.device) -> Any:
    """A batch on a device."""
    with _without_torchmetrics():
        from lightning_fabric.utilities import move_data_to_device as move
    return move(tree, device)
