"""Lightning Fabric, imported without what it does not need here.

It looks up torchmetrics' version by importing it, and with it torchvision: several seconds of every start, for a check
that only matters to models that hold metrics.
"""

import sys

import torch

_absent = "torchmetrics" not in sys.modules
if _absent:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.utilities import move_data_to_device
finally:
    if _absent:
        del sys.modules["torchmetrics"]


def build(accelerator: str, precision: str) -> Fabric:
    """One device. 16-mixed is given as a plugin, for by name Fabric would make bf16-mixed of it on a CPU."""
    if precision != "16-mixed":
        return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
    kind = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    if kind == "cpu":
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]  # oneDNN's LSTM knows no float16
    return Fabric(accelerator=accelerator, devices=1, plugins=MixedPrecision("16-mixed", kind))


__all__ = ["build", "move_data_to_device"]
