import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sequences import Sequence, batch, task
from torch import nn

from irl import EMA, IRLLoss, tap


@given(decay=st.floats(0, 0.999), steps=st.integers(1, 5))
def test_the_average_is_the_closed_form(decay, steps):
    model = nn.Linear(2, 2).double()
    w = [model.weight.detach().clone()]
    teacher = EMA(model, decay)
    for _ in range(steps):
        model.weight.data += torch.randn(2, 2)
        w.append(model.weight.detach().clone())
        teacher.update(model)
    expected = decay**steps * w[0] + sum((1 - decay) * decay ** (steps - i) * w[i] for i in range(1, steps + 1))
    torch.testing.assert_close(teacher.model.weight, expected)


def test_noisy_copies_are_compared_with_the_teacher():
    """Its activations take the place of the clean view's, and no gradient flows to it."""
    model = Sequence().double()
    clean, noisy, y = batch()
    teacher = EMA(model, 0.9)
    model.a.weight.data += 0.1
    model.a.weight.grad = None
    loss = IRLLoss(layers=["l.0"])
    terms = loss(model, clean, noisy, task(y), targets=teacher(clean))
    student = model(*noisy[0])
    expected = loss.compare(teacher.model(*clean), [student])[0]
    torch.testing.assert_close(terms.dist, expected)
    torch.testing.assert_close(terms.total, 0.5 * terms.clean + 0.5 * terms.noisy + terms.dist)
    terms.total.backward()
    assert all(p.grad is None for p in teacher.parameters()) and model.a.weight.grad.abs().sum() > 0


def test_it_stays_in_eval_mode_and_copies_running_statistics():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model = tap(net, ["0"])
    teacher = EMA(model, 0.5)
    teacher.train()
    x = torch.randn(8, 3)
    model(x + 3)
    teacher.update(model)
    torch.testing.assert_close(teacher.model.model[1].running_mean, net[1].running_mean)
    first, again = teacher(x), teacher(x)
    assert torch.equal(first.logits, again.logits) and list(first.hidden) == ["0"]
    assert not any(p.requires_grad for p in teacher.parameters()) and all(p.requires_grad for p in model.parameters())


def test_refusals():
    with pytest.raises(ValueError, match="decay must be at least 0 and less than 1, got 1"):
        EMA(nn.Linear(1, 1), 1)
    clean, noisy, y = batch()
    model = Sequence().double()
    with pytest.raises(ValueError, match="targets take the place of the clean view, which pairs='in_batch' does not"):
        IRLLoss(pairs="in_batch")(model, clean, noisy, task(y), targets=model(*clean))
    with pytest.raises(ValueError, match="zip"):
        EMA(nn.Linear(1, 1)).update(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
