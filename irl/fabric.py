"""Lightning Fabric, imported without what it does not need here.

It looks up torchmetrics' version by importing it, and with it torchvision: several seconds of every start, for a check
that only matters to models that hold metrics.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import torch

from irl.errors import UserError

_absent = "torchmetrics" not in sys.modules
if _absent:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments import (
        ClusterEnvironment,
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )
    from lightning_fabric.utilities import move_data_to_device
    from lightning_fabric.utilities.exceptions import MisconfigurationException
finally:
    if _absent:
        del sys.modules["torchmetrics"]


def build(accelerator: str, precision: str) -> Fabric:
    """One device, or, begun by torchrun or srun, one for each process, connected: gloo on CPUs, NCCL on GPUs."""
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
    if cuda:
        # Or two runs of one network differ, and so do a run and its resumption.
        torch.backends.cudnn.deterministic = True
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


__all__ = ["build", "move_data_to_device"]
