"""The objective: distances between views and the loss that weighs them. Pure tensor functions."""

from irl.objective.distances import KL, L2, Cosine, Distance
from irl.objective.irl_loss import ROWS, IRLLoss, Terms

__all__ = ["Cosine", "Distance", "IRLLoss", "KL", "L2", "ROWS", "Terms"]
