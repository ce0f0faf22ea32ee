"""Several processes that train one model, launched by torchrun or srun (see `build`): their shards and collectives.
A single process takes the whole batch, and collectives do nothing.

The global batch, its noise and its loss do not depend on the number of processes. Each process divides the sum over its
own samples by the size of the global batch; the sum over processes is then the mean, also where shards are uneven.

Barriers and broadcasts of objects are Fabric's. Its reductions are not used: each begins with a barrier, which would be
one more in every update, and its all_gather takes tensors alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from irl.core.errors import UserError
from irl.core.machine import computes_bf16

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import ClusterEnvironment

T = TypeVar("T")


class BatchTotals(NamedTuple):
    """Size of a global batch: its samples, and the targets that the task loss is a mean over, such as tokens."""

    global_batch_size: float
    targets: float


class Shard(NamedTuple):
    """Strided shard `items[rank::world_size]` of one process: neighbours are of similar length, so shards are too."""

    rank: int = 0
    world_size: int = 1

    def take(self, items: Any) -> Any:
        """`items[rank::world_size]` of a list, range or tensor."""
        return items[self.rank :: self.world_size]

    def batch(self, rows: list[int]) -> tuple[list[int], float]:
        """`rows[rank::world_size]` of a batch, with weight 1. A process without rows runs the first row with weight 0,
        so that it still joins the all-reduce of gradients."""
        own = self.take(rows)
        return (own, 1.0) if own else (rows[:1], 0.0)


def _alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over all processes, whose tensors have one shape."""
    if _alone():
        return x
    total = x.to(_device(), copy=True)
    distributed.all_reduce(total)
    return total.to(x.device)


def all_reduce_max(value: int) -> int:
    if _alone():
        return value
    highest = torch.tensor(value, device=_device())
    distributed.all_reduce(highest, distributed.ReduceOp.MAX)
    return int(highest)


def all_gather(value: T) -> list[T]:
    """The values of all processes in the order of ranks."""
    if _alone():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Give all processes the values of the first, in place."""
    if not _alone():
        for x in tensors:
            distributed.broadcast(x, 0)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raises UserError where a collective fails because another process has gone, whose own error tells why."""
    try:
        yield
    except RuntimeError as error:
        if _alone() or not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
        raise UserError(f"process {rank} of {world_size}: another has gone; its own error tells why") from None


@contextlib.contextmanager
def _without_torchmetrics() -> Iterator[None]:
    """Hide torchmetrics while Lightning Fabric is imported, which imports it, and torchvision with it, to look up its
    version: half of the time of that import (measured on a CPU that is shared: 7 of 14 s), at every start. Fabric asks
    for the version only in callbacks that are not used here, and has no setting to leave the look-up out."""
    absent = "torchmetrics" not in sys.modules
    if absent:
        sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules["torchmetrics"]


def build(accelerator: str, precision: str) -> Fabric:
    """One device, or, begun by torchrun or srun, one for each process, connected: gloo on CPUs, NCCL on GPUs. precision
    is as in `TrainConfig`."""
    with _without_torchmetrics():
        from lightning_fabric import Fabric
        from lightning_fabric.plugins import MixedPrecision
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    devices, nodes, environment = _processes()
    cuda = accelerator != "cpu" and torch.cuda.is_available()
    # Without it a run of images does not resume to the bit; it costs nothing that could be measured (tools/bench).
    torch.backends.cudnn.deterministic = cuda
    plugins: list[Any] = [environment]
    if precision == "auto":
        precision = "bf16-mixed" if computes_bf16("cuda" if cuda else "cpu") else "32-true"
    known: Any = precision
    if precision == "16-mixed":
        # As a plugin, for by name Fabric would make bf16-mixed of it on a CPU.
        plugins.append(MixedPrecision("16-mixed", "cuda" if cuda else "cpu"))
        known = None
    bf16 = precision == "bf16-mixed" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not cuda and precision != "32-true" and not bf16:
        # oneDNN's LSTM knows no float16, and bfloat16 only where the processor does.
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
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
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

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
