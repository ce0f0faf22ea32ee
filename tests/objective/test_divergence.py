from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from irl.objective import divergence as module
from irl.objective.divergence import divergence

KINDS = list(itertools.product((False, True), repeat=2))


def plain(a: Tensor, b: Tensor, symmetric: bool, detach_target: bool) -> Tensor:
    """The definition, by torch's own function."""

    def one_way(a: Tensor, b: Tensor) -> Tensor:
        a = a.detach() if detach_target else a
        return F.kl_div(F.log_softmax(b, -1), F.log_softmax(a, -1), reduction="none", log_target=True).sum(-1)

    return (one_way(a, b) + one_way(b, a)) / 2 if symmetric else one_way(a, b)


@pytest.mark.parametrize("symmetric, detach_target", KINDS)
@pytest.mark.parametrize("shape", [(7, 5, 33), (3, 4), (2, 0, 4), (5, 1)])
def test_value_and_slopes_are_those_of_the_definition(
    shape: tuple[int, ...], symmetric: bool, detach_target: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of several rows of which the last is not full, with weights of rows, in float64."""
    monkeypatch.setattr(module, "BLOCK", 100)
    torch.manual_seed(0)
    pair = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    weights = torch.randn(shape[:-1], dtype=torch.float64)
    ours, expected = divergence(*pair, symmetric, detach_target), plain(*pair, symmetric, detach_target)
    torch.testing.assert_close(ours, expected)
    slopes = [
        torch.autograd.grad((value * weights).sum(), pair, allow_unused=True, materialize_grads=True)
        for value in (ours, expected)
    ]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("symmetric, detach_target", KINDS)
@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_a_side_without_gradient(needs: tuple[bool, bool], symmetric: bool, detach_target: bool) -> None:
    torch.manual_seed(1)
    pair = [torch.randn(4, 6, requires_grad=need) for need in needs]
    ours, expected = (f(*pair, symmetric, detach_target) for f in (divergence, plain))
    torch.testing.assert_close(ours, expected)
    assert ours.requires_grad == expected.requires_grad, "a constant target gives no gradient, not one of zeros"
    if expected.requires_grad:
        wanted = [x for x in pair if x.requires_grad]
        options = {"allow_unused": True, "materialize_grads": True}
        torch.testing.assert_close(*(torch.autograd.grad(v.sum(), wanted, **options) for v in (ours, expected)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.floats(-6, 2.5), st.sampled_from(KINDS), st.integers(2, 300))
def test_float32_near_and_far(seed: int, scale: float, kind: tuple[bool, bool], classes: int) -> None:
    """From pairs that agree to five digits to pairs whose probabilities underflow."""
    generator = torch.Generator().manual_seed(seed)
    a = 3 * torch.randn(3, classes, generator=generator)
    pair = [x.requires_grad_() for x in (a, a + 10**scale * torch.randn(3, classes, generator=generator))]
    wide = [x.detach().double().requires_grad_() for x in pair]
    ours, expected = divergence(*pair, *kind), plain(*wide, *kind)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-15)
    ours.sum().backward()
    expected.sum().backward()
    for x, y in zip(pair, wide):
        if y.grad is not None:
            assert x.grad is not None and (x.grad.double() - y.grad).norm() <= 1e-4 * y.grad.norm()


def test_one_and_two_calls_backward_agree() -> None:
    """Whoever calls backward twice gets the gradient twice: nothing that is kept is overwritten."""
    torch.manual_seed(2)
    a, b = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    value = divergence(a, b, True, False).sum()
    (once,) = torch.autograd.grad(value, a, retain_graph=True)
    (twice,) = torch.autograd.grad(value, a)
    torch.testing.assert_close(once, twice, rtol=0, atol=0)


def test_function_transforms_reach_it() -> None:
    torch.manual_seed(3)
    a, b, tangent = torch.randn(3, 4, 6, dtype=torch.float64).unbind()
    _, slope = torch.func.jvp(lambda x: divergence(x, b, True, False), (a,), (tangent,))
    grads = torch.func.vmap(torch.func.grad(lambda x, y: divergence(x, y, True, False)))(a, b)
    torch.testing.assert_close((grads * tangent).sum(-1), slope)


@pytest.mark.parametrize("symmetric, detach_target", KINDS)
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_twice_differentiated(needs: tuple[bool, bool], symmetric: bool, detach_target: bool) -> None:
    """As a gradient penalty does it; the second side may be computed from the first."""
    torch.manual_seed(4)
    first, second = (torch.randn(3, 5, dtype=torch.float64, requires_grad=need) for need in needs)
    for dependent in (False, True):
        found = []
        for function in (divergence, plain):
            b = second + 2 * first.sin() if dependent else second
            value = function(first, b, symmetric, detach_target).sum()
            if not value.requires_grad:
                continue
            leaves = [x for x in (first, second) if x.requires_grad]
            options = {"allow_unused": True, "materialize_grads": True}
            once = torch.autograd.grad(value, leaves, create_graph=True, **options)
            penalty = sum(g.square().sum() for g in once)
            found.append((*once, *torch.autograd.grad(penalty, leaves, **options)))
        if found:
            torch.testing.assert_close(*found)


def test_bf16_is_computed_in_float32() -> None:
    torch.manual_seed(5)
    a, b = (torch.randn(2, 3, 40, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    value = divergence(a, b, True, False)
    torch.testing.assert_close(value, plain(a.float(), b.float(), True, False))
    value.sum().backward()
    assert value.dtype == torch.float32 and a.grad is not None and a.grad.dtype == torch.bfloat16


def test_no_graph_without_gradients_and_none_of_the_default_device() -> None:
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    with torch.no_grad():
        assert not divergence(a, b, True, False).requires_grad
    with torch.device("meta"):
        value = divergence(a, b, True, False)
        value.sum().backward()
    assert value.device.type == "cpu" and a.grad is not None and bool(a.grad.isfinite().all())
