import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.core.rng import Keys
from irl.noise.lp_ball import LpBall

balls = st.fixed_dictionaries(
    {
        "eps": st.floats(1e-3, 5.0),
        "norm": st.sampled_from(["linf", "l2"]),
        "bounds": st.sampled_from([None, (torch.tensor(-1.0), torch.tensor(1.0))]),
    }
)


def build(settings, shape=(5, 3, 2, 2)):
    """A ball whose centers lie within the bounds, the first two of them on the bounds, and keys."""
    torch.manual_seed(0)
    center = 2 * torch.rand(shape, dtype=torch.float64) - 1
    center[0], center[1] = -1, 1
    return LpBall(center, **settings), Keys(torch.arange(shape[0]), 1, "ball")


def sizes(x, norm):
    return x.flatten(1).abs().amax(1) if norm == "linf" else x.flatten(1).norm(dim=1)


def assert_inside(z, ball):
    assert (sizes(z - ball.center, ball.norm) <= ball.eps * (1 + 1e-12) + 1e-15).all()
    assert ball.bounds is None or (z.min() >= ball.bounds[0] and z.max() <= ball.bounds[1])


@given(settings=balls, far=st.floats(0.0, 20.0))
def test_project(settings, far):
    """A projection lies in the ball and is its own projection; a point of the ball is left where it is."""
    ball, _ = build(settings)
    z = ball.center + far * torch.randn_like(ball.center)
    found = ball.project(z)
    assert_inside(found, ball)
    torch.testing.assert_close(ball.project(found), found, rtol=1e-12, atol=1e-14)
    inside = ball.center * (1 - 1e-4 * ball.eps)
    torch.testing.assert_close(ball.project(inside), inside, rtol=1e-12, atol=1e-14)
    assert torch.equal(ball.project(ball.center), ball.center)


@given(settings=balls)
def test_random_points_lie_in_the_ball(settings):
    ball, keys = build(settings)
    for z in (ball.random_point(keys), ball.surface_point(keys)):
        assert z.shape == ball.center.shape and z.dtype == ball.center.dtype
        assert_inside(z, ball)
    if ball.bounds is None:
        size = sizes(ball.surface_point(keys) - ball.center, ball.norm)
        torch.testing.assert_close(size, torch.full_like(size, ball.eps))


@given(settings=balls)
def test_no_direction_is_steeper(settings):
    """The steepest direction has size 1, and <g, d> is the dual norm of g: L1 for linf, L2 for l2."""
    ball, keys = build(settings)
    gradient = torch.randn_like(ball.center)
    direction = ball.steepest(gradient)
    torch.testing.assert_close(sizes(direction, ball.norm), torch.ones(5, dtype=torch.float64))
    slope = (gradient * direction).flatten(1).sum(1)
    torch.testing.assert_close(slope, gradient.flatten(1).norm(p=1 if ball.norm == "linf" else 2, dim=1))
    assert not ball.steepest(torch.zeros_like(gradient)).any()


def test_random_points_are_uniform():
    """In two dimensions the share within a radius r is r squared, and within a square likewise."""
    for norm in ("l2", "linf"):
        ball, keys = LpBall(torch.zeros(4000, 2), 2.0, norm), Keys(torch.arange(4000), 1, "ball")
        radius = sizes(ball.random_point(keys), norm) / 2
        assert radius.max() <= 1 and float((radius < 0.5).float().mean()) == pytest.approx(0.25, abs=0.02)
