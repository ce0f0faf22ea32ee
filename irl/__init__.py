"""Invariant representation learning: the loss, noise, models and recipes. Importing it needs torch alone."""

from irl.models.tap import tap
from irl.objective import KL, L2, ROWS, Cosine, IRLLoss, Terms
from irl.types import Output
from irl.version import __version__

__all__ = ["Cosine", "IRLLoss", "KL", "L2", "Output", "ROWS", "Terms", "__version__", "tap"]
