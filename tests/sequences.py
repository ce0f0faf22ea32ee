"""A small model of sequences and batches for it."""

import torch
from torch import nn
from torch.nn import functional as F

from irl import Output


class Sequence(nn.Module):
    """Two linear layers over padded sequences (N, T, 4), with lengths of a layer each."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x, lens):
        h0 = torch.tanh(self.a(x))
        h1 = self.b(h0[:, ::2])
        half = (lens + 1) // 2
        return Output(h1.mean(1), {"l.0": h0, "l.1": h1}, {"l.0": lens, "l.1": half}, {"aux": h1})


def task(y):
    return lambda view: F.cross_entropy(view.logits, y)


def batch(copies=1, n=3, t=7, dtype=torch.float64):
    x = torch.randn(n, t, 4, dtype=dtype)
    lens = torch.tensor([t, 4, 1])[:n]
    noisy = [(x + 0.3 * torch.randn_like(x), lens) for _ in range(copies)]
    return (x, lens), noisy, torch.tensor([0, 1, 2])[:n]
