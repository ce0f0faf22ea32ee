"""The paper's structural view with its exact conditions: what the terms of the loss become under small Gaussian noise.

Expectations are taken by Gauss-Hermite quadrature on a smooth model of three inputs, so that nothing is left to chance:
each statement holds up to a remainder in s^2, which is seen to fall by four where s is halved.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from irl import L2, IRLLoss, Output
from irl.objective.covariance import Full
from irl.objective.smoothness import half_curvature, lambda_r, omega_r

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
GRID = torch.tensor(list(itertools.product(NODES, repeat=3)))
MASS = torch.tensor([np.prod(w) for w in itertools.product(WEIGHTS / WEIGHTS.sum(), repeat=3)])
STEPS = (0.04, 0.02, 0.01)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(3, 5), nn.Linear(5, 4)

    def forward(self, x):
        a = torch.tanh(self.first(x))
        return Output(self.out(a), {"a": a})


@pytest.fixture
def model():
    torch.manual_seed(1)
    found = Model().double()
    for p in found.parameters():
        nn.init.normal_(p, 0, 0.8)
        p.requires_grad_(False)
    return found


@pytest.fixture
def x():
    return torch.randn(1, 3, dtype=torch.float64)


@pytest.fixture
def root():
    return torch.randn(3, 3, dtype=torch.float64)


def expectation(function, x, root, s):
    """E function(x + s root z), z standard normal; function: (N, 3) -> (N,)."""
    return (MASS * function(x + s * GRID @ root.T)).sum()


def converges(values, limit):
    """Errors fall as s^2 does, and what is left when that is taken out is the limit."""
    errors = [abs(float(v - limit)) for v in values]
    assert float(4 * values[-1] - values[-2]) / 3 == pytest.approx(float(limit), rel=1e-4)
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.05)


def hessian_trace(function, x, covariance):
    return (torch.autograd.functional.hessian(lambda v: function(v[None])[0], x[0]) * covariance).sum()


def test_the_sampled_distance_tends_to_lambda(model, x, root):
    distance = IRLLoss(alpha=0, beta=0, gamma=1, distance=1.0 * L2("squared"), layers=["a", "logits"])
    clean = model(x)
    with torch.no_grad():
        exact = lambda_r(model, x, Full(root @ root.T), "exact", layers=["a", "logits"])

    def moved(points):
        return torch.stack([distance.compare(clean, [model(p[None])])[0] for p in points])

    converges([expectation(moved, x, root, s) / s**2 for s in STEPS], sum(v[0] for v in exact.values()))


@pytest.mark.parametrize("label", ["one-hot", "soft", "the model's own"])
def test_the_noisy_loss_tends_to_half_the_curvature(model, x, root, label):
    f = model(x).logits.softmax(-1)
    soft = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).double()
    y = {"one-hot": torch.tensor([2]), "soft": soft, "the model's own": f}[label]
    sigma, covariance = Full(root @ root.T), root @ root.T

    def loss(points):
        return F.cross_entropy(model(points).logits, y.expand(len(points), *y.shape[1:]), reduction="none")

    limit = hessian_trace(loss, x, covariance) / 2
    converges([(expectation(loss, x, root, s) - loss(x)[0]) / s**2 for s in STEPS], limit)
    # By draws, of which the mean over the grid is that over all there are: xi^T H xi is a polynomial.
    drawn = half_curvature(model, x.expand(len(GRID), -1), y.expand(len(GRID), *y.shape[1:]), Fixed(GRID @ root.T))
    assert float((MASS * drawn).sum()) == pytest.approx(float(limit), rel=1e-9)
    # Omega_R less the part that vanishes where y = f(x), and only there.
    omega = omega_r(model, x, y, sigma, "exact")[0]
    weights = F.one_hot(y, 4).double() if y.dim() == 1 else y
    bent = torch.stack(
        [hessian_trace(lambda p, j=j: model(p).logits.softmax(-1)[:, j], x, covariance) for j in range(4)]
    )
    rest = 0.5 * (weights * bent / f).sum()
    assert float(omega - rest) == pytest.approx(float(limit), rel=1e-9)
    if label == "the model's own":
        assert abs(float(rest)) < 1e-12
    else:
        assert abs(float(rest)) > 0.1 * abs(float(limit)), "so Omega_R alone is not the limit for other labels"


def test_the_whole_loss_with_the_models_own_labels(model, x, root):
    """L_IRL = (alpha + beta) CE + beta Omega_R + gamma Lambda_R to second order, for y = f(x)."""
    y = model(x).logits.softmax(-1)
    objective = IRLLoss(alpha=0.3, beta=0.7, gamma=2.0, distance=1.0 * L2("squared"), layers={"a": 0.5})
    clean, loss = model(x), lambda view: F.cross_entropy(view.logits, y)

    def total(points):
        return torch.stack([objective.terms([clean, model(p[None])], loss).total for p in points])

    def expanded(s):
        sigma = Full(s**2 * root @ root.T)
        lam = 0.5 * lambda_r(model, x, sigma, "exact")["a"][0]
        return loss(clean) + 0.7 * omega_r(model, x, y, sigma, "exact")[0] + 2.0 * lam

    remainders = [abs(float(expectation(total, x, root, s) - expanded(s))) for s in STEPS]
    assert remainders[-1] < 1e-5
    for coarse, fine in itertools.pairwise(remainders):
        # Of the fourth order.
        assert coarse / fine == pytest.approx(16, rel=0.1)


class Fixed:
    def __init__(self, xi):
        self.xi = xi

    def draw(self, x, generator=None):
        return self.xi
