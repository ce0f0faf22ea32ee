"""Lightning Fabric, imported without what it does not need here.

It looks up torchmetrics' version by importing it, and with it torchvision: several seconds of every start, for a check
that only matters to models that hold metrics.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

import torch

_absent = "torchmetrics" not in sys.modules
if _absent:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments import SLURMEnvironment
    from lightning_fabric.utilities import move_data_to_device
finally:
    if _absent:
        del sys.modules["torchmetrics"]


def build(accelerator: str, precision: str) -> Fabric:
    """One device, or, begun by torchrun or srun, one for each process, connected: gloo on CPUs, NCCL on GPUs."""
    # Of one process, wherever Slurm is installed.
    warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    devices, nodes = _processes()
    cuda = accelerator != "cpu" and torch.cuda.is_available()
    plugins = []
    if precision == "16-mixed":
        # As a plugin, for by name Fabric would make bf16-mixed of it on a CPU.
        plugins.append(MixedPrecision("16-mixed", "cuda" if cuda else "cpu"))
        if not cuda:
            torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]  # oneDNN's LSTM knows no float16
    fabric = Fabric(
        accelerator=accelerator,
        strategy="ddp" if devices * nodes > 1 else "auto",
        devices=devices,
        num_nodes=nodes,
        precision=None if plugins else precision,  # type: ignore[arg-type]
        plugins=plugins,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _processes() -> tuple[int, int]:
    """How many processes of this run each node has, and how many nodes there are."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and SLURMEnvironment.detect():
        nodes = int(os.environ["SLURM_NNODES"])
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1


__all__ = ["build", "move_data_to_device"]
