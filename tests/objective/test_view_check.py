"""Foreign models that do not treat stacked views alike and alone are refused; others are left undisturbed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from irl import IRLLoss, tap


class Model(nn.Module):
    """Sequences (N, T, 4) with what `how` says done to them."""

    def __init__(self, how):
        super().__init__()
        self.a, self.out, self.how = nn.Linear(4, 8), nn.Linear(8, 3), how
        self.norm, self.calls = nn.BatchNorm1d(8), 0
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=how != "time first")
        self.rnn = nn.GRU(8, 8, 2, batch_first=True, dropout=0.5)

    def forward(self, x, lens):
        self.calls += 1
        n, order = len(x), torch.arange(len(x))
        if self.how == "sort":
            order = lens.argsort(descending=True, stable=True)
        if self.how == "shuffle" and self.training:
            order = torch.randperm(n)
        if self.how == "mask" and self.training:
            x = x * torch.tensor(np.random.rand(n, x.shape[1], 1) > 0.3)
        h = torch.tanh(self.a(x[order]))
        if self.how == "time first":
            h = self.attention(h)
        if self.how == "as usual":
            h = self.rnn(F.dropout(self.attention(h), 0.2, self.training))[0]
            h = self.norm(h.transpose(1, 2)).transpose(1, 2)
            h = h + h * (torch.rand(n, 1, 1) > 0.2) + h * h.new_empty(n, 1, 1).bernoulli_(0.9)
        return self.out(h)[order.argsort()] if self.how != "time first" else self.out(h)


X, LENS = torch.randn(3, 6, 4), torch.tensor([2, 6, 4])
VIEWS = [(X, LENS), (X + 0.5 * torch.randn(3, 6, 4), LENS)]


@pytest.mark.parametrize("how, modes", [("sort", "te"), ("shuffle", "t"), ("mask", "t"), ("time first", "te")])
def test_models_that_do_not_keep_views_apart(how, modes):
    for mode in "te":
        layer = "out" if how == "time first" else "a"
        tapped = tap(Model(how).train(mode == "t"), [layer])
        call = lambda **k: IRLLoss(0, 0, 1, **k)(tapped, VIEWS[0], VIEWS[1:], None)  # noqa: E731
        if mode in modes:
            with pytest.raises(ValueError, match=r"came out different .*IRLLoss\(passes='separate'\) runs one pass"):
                call()
        else:
            call()
        assert call(passes="separate").dist > 0 and call(passes="unchecked").dist > 0


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_usual_models_are_not_refused_and_not_disturbed(precision):
    """Dropout of every kind, stochastic depth, batch norm, recurrent and attention layers, under autocast too: loss,
    gradients, buffers, attributes and draws are those without the check."""
    found = []
    for passes in ("stacked", "unchecked"):
        torch.manual_seed(1), np.random.seed(1)
        model = Model("as usual")
        with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
            terms = IRLLoss(passes=passes)(
                tap(model, ["a", "attention", "out"]), VIEWS[0], VIEWS[1:], lambda v: v.logits.float().square().mean()
            )
        terms.total.backward()
        gradients = [p.grad for p in model.parameters()]
        assert model.calls == 1 and model.norm.training and model.rnn.dropout == 0.5
        found.append([terms.total, *gradients, *model.buffers(), torch.rand(3), torch.tensor(np.random.rand())])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_each_mode_is_checked_once():
    passes = []

    class Counting(nn.Linear):
        def forward(self, x):
            passes.append(self.training)
            return super().forward(x)

    tapped = tap(nn.Sequential(Counting(4, 3)), ["0"])
    x = torch.randn(2, 4)
    for _ in range(2):
        IRLLoss(0, 0, 1)(tapped, x, [x + 1], None)
    tapped.eval()
    IRLLoss(0, 0, 1)(tapped, x, [x + 1], None)
    assert passes == [True] * 4 + [False] * 3
