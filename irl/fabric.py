"""Lightning Fabric, imported without what it does not need here.

It looks up torchmetrics' version by importing it, and with it torchvision: several seconds of every start, for a check
that only matters to models that hold metrics.
"""

import sys

_absent = "torchmetrics" not in sys.modules
if _absent:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
try:
    from lightning_fabric import Fabric
    from lightning_fabric.utilities import move_data_to_device
finally:
    if _absent:
        del sys.modules["torchmetrics"]

__all__ = ["Fabric", "move_data_to_device"]
