"""How the views run: stacked, or one pass a view, each against hand-written passes."""

import copy
import gc
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from irl import KL, L2, IRLLoss, Output, tap

Y = torch.tensor([0, 1, 2, 0])


def grads(value, model):
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters())]


def equal(ours, plain, model):
    """Loss and gradients, to the bit."""
    assert torch.equal(ours, plain)
    assert all(torch.equal(a, b) for a, b in zip(grads(ours, model), grads(plain, model)))


def distance_of(a, b):
    """0.1 |a - b| + 1 - cos, mean over samples, as the objective takes it of outputs that are there."""
    views = [Output(None, {"h": x}) for x in (a, b)]
    return IRLLoss(0, 0, 1).compare(views[0], views[1:])[0]


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 8), nn.Linear(8, 3)

    def forward(self, x):  # (T, N, 4) -> (T, N, 3)
        return self.out(self.rnn(x)[0])


def test_time_first_inputs_run_separately():
    model, x = TimeFirst(), torch.randn(8, 3, 4)
    noisy, y = x + 0.2, torch.randint(0, 3, (24,))
    loss = lambda out: F.cross_entropy(out.flatten(0, 1), y)  # noqa: E731
    tapped = tap(model, ["rnn"], select=0, batch_dim=1)
    ours = IRLLoss(passes="separate")(tapped, x, [noisy], lambda v: loss(v.logits))
    a, b = (model.rnn(v)[0] for v in (x, noisy))
    task = 0.5 * loss(model.out(a)) + 0.5 * loss(model.out(b))
    equal(ours.total, task + distance_of(a.transpose(0, 1), b.transpose(0, 1)), model)
    with pytest.raises(ValueError, match=r"time first .* batch_dim=\{'rnn': 1\}"):
        IRLLoss()(tap(model, ["rnn"], select=0), x, [noisy], None)
    with pytest.raises(ValueError, match=r"batch is not dimension 0.*IRLLoss\(passes='separate'\)|needs IRLLoss"):
        IRLLoss()(tapped, x, [noisy], None)
    with pytest.raises(ValueError, match=r"IRLLoss\(passes='separate'\)"):
        IRLLoss()(tap(model, ["out"]), x, [noisy], None)


@dataclass
class Scored:
    """As transformers' models return: a loss beside logits."""

    loss: torch.Tensor
    logits: torch.Tensor


class OwnLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, x, labels):
        logits = self.head(self.drop(self.body(x)))
        return Scored(F.cross_entropy(logits, labels), logits)


def test_models_that_compute_their_own_loss_and_the_same_dropout_in_every_pass():
    model, x = OwnLoss(), torch.randn(4, 4)
    views = [{"x": v, "labels": Y} for v in (x, x + 1)]
    loss = IRLLoss(passes="separate")
    torch.manual_seed(3)
    ours = loss(tap(model, ["head"]), views[0], views[1:], lambda view: view.logits.loss)
    assert not torch.equal(torch.rand(1), torch.rand(1)), "generators go on"
    outs = []
    for view in views:
        torch.manual_seed(3)
        outs.append(model(**view))
    distance = distance_of(outs[0].logits, outs[1].logits)
    equal(ours.total, 0.5 * outs[0].loss + 0.5 * outs[1].loss + distance, model)
    with pytest.raises(ValueError, match=r"computes its own loss.* needs IRLLoss\(passes='separate'\)"):
        IRLLoss()(tap(model, ["head"]), views[0], views[1:], lambda view: view.logits.loss)
    same = loss(tap(model, ["head"]), views[0], views[:1], None)
    assert same.dist == 0, "equal views meet equal masks"


def test_generators_of_numpy_start_again_for_each_view():
    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x * torch.tensor(np.random.rand(len(x), 1) > 0.5))

    x = torch.randn(64, 4)
    assert IRLLoss(0, 0, 1, passes="separate")(tap(Masks(), ["layer"]), x, [x], None).dist == 0
    assert IRLLoss(0, 0, 1, passes="unchecked")(tap(Masks(), ["layer"]), x, [x], None).dist > 0.1


class Packing(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x, lens):
        packed = x if isinstance(x, PackedSequence) else pack_padded_sequence(x, lens, batch_first=True)
        h, lens = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(h.mean(1)), lens


def test_sorted_and_packed_batches():
    model, x, lens = Packing(), torch.randn(4, 7, 4), torch.tensor([7, 5, 5, 2])
    tapped = tap(model, ["rnn"], select=lambda out: pad_packed_sequence(out[0], batch_first=True)[0], lens_fn=1)
    task = lambda view: F.cross_entropy(view.logits[0], Y)  # noqa: E731
    with pytest.raises(RuntimeError, match=r"enforce_sorted=False, or use IRLLoss\(passes='separate'\)"):
        IRLLoss()(tapped, (x, lens), [(x + 1, lens)], task)
    views = [(x, lens), (x + 1, lens)]
    ours = IRLLoss(passes="separate")(tapped, views[0], views[1:], task)
    assert torch.equal(ours.clean, task(tapped(*views[0]))) and torch.equal(ours.noisy, task(tapped(*views[1])))
    packed = [pack_padded_sequence(v, lens, batch_first=True) for v, _ in views]
    again = IRLLoss(passes="separate")(tapped, (packed[0], None), [(packed[1], None)], task)
    equal(again.total, ours.total, model)
    with pytest.raises(ValueError, match="PackedSequence has no dimension of samples"):
        IRLLoss()(tapped, (packed[0], None), [(packed[1], None)], task)


def test_masks_of_steps_and_views_of_different_lengths():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

        def forward(self, x, mask, lens):
            return self.layer(x, src_mask=mask), lens

    model = Attending()
    mask = nn.Transformer.generate_square_subsequent_mask
    lens = torch.tensor([5, 3])
    views = [(torch.randn(2, t, 8), mask(t), lens - cut) for t, cut in ((7, 0), (5, 2))]
    tapped = tap(model, ["layer"], lens="lens")
    ours = IRLLoss(0, 0, 1, passes="separate")(tapped, views[0], views[1:], None).dist
    a, b = (model(*view)[0] for view in views)
    frames = lambda i, n: sum(distance_of(a[i, None, t], b[i, None, t]) for t in range(n)) / n  # noqa: E731
    torch.testing.assert_close(ours, (frames(0, 3) + frames(1, 1)) / 2)
    with pytest.raises(ValueError, match="one shape .*pad sequences"):
        IRLLoss(0, 0, 1)(tapped, views[0], views[1:], None)
    with pytest.raises(RuntimeError) as caught:
        IRLLoss(0, 0, 1)(tapped, views[0], views[:1], None)
    assert "If it takes one view at a time, use IRLLoss(passes='separate')" in caught.value.__notes__[0]


def test_views_that_cannot_be_stacked():
    model = tap(nn.Sequential(nn.Linear(4, 3)), ["0"])
    x, loss = torch.randn(3, 4), IRLLoss(0, 0, 1)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x, names=None):
            assert names is None or len(names) == len(x)
            return self.layer(x)

    named = tap(Named(), ["layer"])
    for names in (["a", "b", "c"], [7, 5, 3], np.arange(3)):
        view = {"x": x, "names": names}
        with pytest.raises(ValueError, match=r"3 values, one a sample.*IRLLoss\(passes='separate'\)"):
            loss(named, view, [view], None)
        other = {"x": x + 1, "names": names}
        assert IRLLoss(0, 0, 1, passes="separate")(named, view, [other], None).dist > 0
    for views, message in (
        (((x,), x), "noisy is a list of copies"),
        (((x, x), (x, None)), "one shape and a dimension of samples"),
        (({"x": x, "names": "a"}, {"x": x, "names": "b"}), "passes='separate'. allows it"),
        (((x, torch.tensor(1.0)),) * 2, "give settings as numbers"),
        ((x[:0], x[:0]), "the batch is empty"),
        ((("a", "b"),) * 2, "no tensor that could be stacked"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(model, views[0], views[1:], None)


@pytest.mark.parametrize("split", [True, False])
def test_batch_norm_over_both_views_or_each(split):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    by_hand = copy.deepcopy(model)
    x = torch.randn(4, 4, dtype=torch.float64)
    noisy = 2 * x + 1
    loss = IRLLoss(batch_norm="split" if split else "joint")
    ours = loss(tap(model, ["1"]), x, [noisy], lambda v: F.cross_entropy(v.logits, Y))
    parts = [x, noisy] if split else [torch.cat([x, noisy])]
    hidden = torch.cat([by_hand[:2](part) for part in parts])
    a, b = hidden.chunk(2)
    task = [F.cross_entropy(by_hand[2:](h), Y) for h in (a, b)]
    torch.testing.assert_close(ours.total, 0.5 * task[0] + 0.5 * task[1] + distance_of(a, b))
    for ours, plain in zip(grads(ours.total, model), grads(0.5 * sum(task) + distance_of(a, b), by_hand)):
        torch.testing.assert_close(ours, plain)
    assert "forward" not in vars(model[1])
    for buffer, plain in zip(model.buffers(), by_hand.buffers()):
        torch.testing.assert_close(buffer, plain)


def test_split_batch_norm_is_refused_in_checkpoints():
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(super().forward, x, use_reentrant=False)

    model = tap(Checkpointed(nn.Linear(4, 8), nn.BatchNorm1d(8)), ["0"])
    x = torch.randn(4, 4)
    with pytest.raises(ValueError, match="does not work in checkpointed layers; use"):
        IRLLoss(batch_norm="split")(model, x, [x + 1], lambda v: F.cross_entropy(v.logits, Y))
    # torch leaves its hooks in place until the interrupted checkpoint is collected.
    gc.collect()
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None


class NoGradient(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.stem, self.a, self.b, self.out = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.how = how
        if how == "frozen":
            self.a.requires_grad_(False), self.stem.requires_grad_(False)

    def forward(self, x):
        f = lambda z: self.b(torch.tanh(self.a(z)))  # noqa: E731
        h = self.stem(x)
        if self.how == "reentrant":
            return self.out(torch.utils.checkpoint.checkpoint(f, h, use_reentrant=True))
        with torch.set_grad_enabled(self.how != "no_grad"):
            h = f(h)
        return self.out(h)


@pytest.mark.parametrize("how", ["frozen", "no_grad", "reentrant"])
def test_a_distance_without_gradient_is_an_error_that_says_why(how):
    x = torch.randn(4, 4)
    tapped = tap(NoGradient(how), ["a"])
    task = lambda v: F.cross_entropy(v.logits, Y)  # noqa: E731
    with pytest.raises(ValueError, match="distance has no gradient.* in layers a: .*frozen.*use_reentrant=False.*LoRA"):
        IRLLoss()(tapped, x, [x + 1], task)
    assert IRLLoss(gamma=0)(tapped, x, [x + 1], task).total.requires_grad
    with torch.no_grad():
        assert IRLLoss()(tapped, x, [x + 1], task).dist > 0


def test_one_of_several_layers_without_gradient_is_told(caplog):
    x = torch.randn(4, 4)
    with caplog.at_level("WARNING", logger="irl"):
        terms = IRLLoss()(tap(NoGradient("frozen"), ["a", "out"]), x, [x + 1], lambda v: F.cross_entropy(v.logits, Y))
    assert terms.dist.requires_grad and "no gradient in layers a: their weights may be frozen" in caplog.text


def test_positions_of_images_are_distributions_over_classes():
    """(N, C, H, W) over C and (N, T, V) over V, averaged over positions; 'logits' of an object that holds them."""
    model = nn.Sequential(nn.Conv2d(3, 5, 1))
    x = torch.randn(2, 3, 4, 6)
    ours = IRLLoss(0, 0, 1, distance=KL(), layers=["0"])(tap(model, ["0"]), x, [x + 1], None).dist
    p, q = (model(v).log_softmax(1) for v in (x, x + 1))
    torch.testing.assert_close(ours, (p.exp() * (p - q)).sum(1).mean())
    scored = OwnLoss().eval()
    views = [{"x": v, "labels": Y} for v in (torch.randn(4, 4), torch.randn(4, 4))]
    loss = IRLLoss(0, 0, 1, distance=KL(), layers=["logits"], passes="separate")
    p, q = (scored(**view).logits.log_softmax(1) for view in views)
    torch.testing.assert_close(
        loss(tap(scored, ["head"]), views[0], views[1:], None).dist, (p.exp() * (p - q)).sum(1).mean()
    )


def test_r_drop_on_sequences_counts_tokens():
    model, lens = nn.Sequential(nn.Linear(4, 5)), torch.tensor([6, 3])
    a = torch.randn(2, 6, 4)
    p, q = (model(v).log_softmax(-1) for v in (a, a + 0.5))
    kl = (p.exp() * (p - q)).sum(-1)
    loss = IRLLoss(0, 0, 1, distance=KL(), layers=["logits"])
    torch.testing.assert_close(loss(tap(model, ["0"]), a, [a + 0.5], None).dist, kl.mean())
    valid = torch.arange(6) < lens[:, None]
    ours = loss(tap(model, ["0"], lens_fn=lambda out: lens.repeat(2)), a, [a + 0.5], None).dist
    torch.testing.assert_close(ours, ((kl * valid).sum(1) / lens).mean())
    both = IRLLoss(0, 0, 1, distance=L2() + KL())(tap(model, ["0"]), a, [a + 0.5], None)
    torch.testing.assert_close(both.parts["kl"]["0"], kl.mean())
    torch.testing.assert_close(both.parts["l2"]["0"], (model(a) - model(a + 0.5)).flatten(1).norm(dim=1).mean())
