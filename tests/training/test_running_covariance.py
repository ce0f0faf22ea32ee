"""Running covariances against plain recursions."""

import math

import torch

from irl.training.running_covariance import NoiseCovariance, RunningCovariance


def test_a_running_covariance_is_the_recursion_of_roth():
    running = NoiseCovariance((2, 3), rate=0.1)
    diagonal = NoiseCovariance((2, 3), rate=0.1, diagonal=True)
    expected = None
    for _ in range(3):
        clean, xi = torch.randn(8, 2, 3), torch.randn(8, 2, 3)
        moment = torch.stack([torch.outer(v.flatten(), v.flatten()) for v in xi]).mean(0)
        expected = moment if expected is None else 0.9 * expected + 0.1 * moment
        for each in (running, diagonal):
            each.update(clean, clean + xi)
    assert torch.allclose(running.covariance, expected, atol=1e-5)
    assert torch.allclose(diagonal.covariance.flatten(), expected.diagonal(), atol=1e-5)
    g = torch.randn(5, 2, 3)
    flat = g.flatten(1)
    assert torch.allclose(running.sigma().quadratic(g), (flat @ expected * flat).sum(1), rtol=1e-3)
    draws = running.sigma().draw(torch.zeros(40000, 2, 3)).flatten(1)
    assert torch.allclose(draws.T @ draws / len(draws), expected, atol=0.06)
    assert {"covariance", "started"} == set(running.state_dict())


def test_representations_that_diverged_have_no_rank():
    for value in (math.nan, math.inf, 1e300):
        covariance = RunningCovariance()
        covariance.add(torch.tensor([[1.0, 2.0], [value, 3.0], [5.0, value]], dtype=torch.float64))
        assert math.isnan(covariance.effective_rank())
