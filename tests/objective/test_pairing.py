"""The mixture of views; other pairs are tested with the loss."""

import math

import pytest
import torch
from torch.nn import functional as F

from irl import KL, L2, IRLLoss, Output

LOSS = IRLLoss(1, 0, 1, distance=KL(), layers=["logits"], pairs="mixture")


def jensen_shannon(views):
    """(K, ..., C) -> (...)"""
    p = torch.stack([x.softmax(-1) for x in views])
    mean = p.mean(0)
    return torch.where(p > 0, p * (p / mean).log(), 0.0).sum(-1).mean(0)


def test_the_divergence_of_three_views():
    torch.manual_seed(0)
    views = [torch.randn(4, 7, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    terms = LOSS.terms([Output(x, {}) for x in views], lambda view: F.cross_entropy(view.logits, torch.arange(4)))
    expected = jensen_shannon(views).mean()
    torch.testing.assert_close(terms.dist, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, views) for x in (terms.dist, expected)))
    assert float(terms.dist.detach()) <= math.log(3)


def test_frames_beyond_the_shortest_view_stay_out():
    torch.manual_seed(1)
    views = [torch.randn(2, 7, 5, dtype=torch.float64) for _ in range(2)]
    lens = [torch.tensor([7, 5]), torch.tensor([6, 5])]
    views[1][0, 6:] = views[1][1, 5:] = math.nan
    outputs = [Output(x, {}, {"logits": n}) for x, n in zip(views, lens)]
    frames = jensen_shannon([x.nan_to_num() for x in views])
    found = LOSS.compare(outputs[0], outputs[1:])[0]
    torch.testing.assert_close(found, (frames[0, :6].mean() + frames[1, :5].mean()) / 2)


def test_images_mix_their_classes_and_excluded_classes_have_no_gradient():
    torch.manual_seed(2)
    views = [torch.randn(2, 5, 3, 3, dtype=torch.float64) for _ in range(2)]
    for x in views:
        x[:, 4] = -math.inf
        x.requires_grad_()
    found = LOSS.compare(*(Output(views[0], {}), [Output(views[1], {})]))[0]
    expected = jensen_shannon([x[:, :4].movedim(1, -1) for x in views]).mean()
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(bool(x.grad.isfinite().all()) and not x.grad[:, 4].any() for x in views)


def test_what_cannot_be_mixed_is_refused():
    for distance in (L2(), KL() + L2(), KL(temperature=2.0)):
        with pytest.raises(ValueError, match="takes the mean of distributions: expected distance=KL"):
            IRLLoss(distance=distance, pairs="mixture")
    for other, found in ((torch.zeros(2, 4), r"\[\(2, 3\), \(2, 4\)\]"), ((torch.zeros(2, 3),), "tuple")):
        with pytest.raises(ValueError, match=f"needs tensors of one shape, layer 'logits' is .*{found}"):
            LOSS.compare(Output(torch.zeros(2, 3), {}), [Output(other, {})])
