import pytest
import torch
from sequences import Sequence, batch, task
from torch.nn import functional as F

from irl import L2, IRLLoss, Output
from irl.objective.vectors import instance_norm


def test_frames_are_normalised_over_the_valid_ones_alone():
    x = torch.randn(3, 7, 4, dtype=torch.float64) * 3 + 2
    lens = torch.tensor([7, 4, 1])
    padded = x.clone()
    padded[1, 4:], padded[2, 1:] = float("nan"), float("inf")
    found = instance_norm(padded, lens)
    for row, n in enumerate(lens.tolist()):
        expected = F.instance_norm(x[row, :n].T[None])[0].T if n > 1 else torch.zeros(1, 4).double()
        torch.testing.assert_close(found[row, :n], expected)
        assert not found[row, n:].any()
    torch.testing.assert_close(instance_norm(x, None), F.instance_norm(x.movedim(1, 2)).movedim(1, 2))


def test_images_are_normalised_over_positions():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(instance_norm(x, None), F.instance_norm(x))


def test_distance_is_that_of_normalised_states():
    model = Sequence().double()
    clean, noisy, y = batch()
    terms = IRLLoss(normalise="instance", distance=1.0 * L2("mean"), layers=["l.0"])(model, clean, noisy, task(y))
    a, b = (instance_norm(model(*view).hidden["l.0"], clean[1]) for view in (clean, noisy[0]))
    expected = sum((a[i, :n] - b[i, :n]).square().mean() for i, n in enumerate(clean[1])) / 3
    torch.testing.assert_close(terms.dist, expected)
    grads = torch.autograd.grad(terms.dist, model.a.weight)[0], torch.autograd.grad(expected, model.a.weight)[0]
    torch.testing.assert_close(*grads)


def test_scale_and_offset_of_a_unit_do_not_matter():
    """A view that is another level of the same: what instance-normalised targets are for."""
    x = torch.randn(2, 9, 5)
    loss = IRLLoss(normalise="instance", distance=1.0 * L2("mean"))
    views = [Output(x[:, 0], {"h": h}, {"h": torch.tensor([9, 6])}) for h in (x, 4 * x + 1)]
    assert float(loss.compare(views[0], views[1:])[0]) < 1e-5


def test_refusals():
    view = Output(torch.zeros(2, 3), {"h": torch.randn(2, 3)})
    with pytest.raises(ValueError, match=r"layer 'h' is \(2, 3\): normalise='instance' needs frames or positions"):
        IRLLoss(normalise="instance").compare(view, [view])
    with pytest.raises(ValueError, match="over='frame'"):
        IRLLoss(normalise="instance", over="sample")
