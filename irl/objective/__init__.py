"""The objective: distances between views and the loss that weighs them. Pure tensor functions."""

from irl.objective.distances import KL, L2, Cosine, CrossEntropy, Distance, Probabilities
from irl.objective.irl_loss import PRESETS, IRLLoss
from irl.objective.terms import Terms

__all__ = ["Cosine", "CrossEntropy", "Distance", "IRLLoss", "KL", "L2", "Probabilities", "PRESETS", "Terms"]
