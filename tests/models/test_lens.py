"""Lengths of tapped layers: served as they are, or refused with a remedy that works."""

import pytest
import torch
from torch import nn

from irl import L2, IRLLoss, tap


class Frames(nn.Module):
    def __init__(self):
        super().__init__()
        self.l, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x, lens):
        h = self.l(x)
        return self.out(h.mean(1)), lens


MODEL, X, LENS = Frames(), torch.randn(3, 7, 4), torch.tensor([7, 5, 3])


def lens_of(lens, **settings):
    return tap(MODEL, ["l"], lens=lens, **settings)(X, LENS).lens


def same(found):
    return list(found) == ["l"] and torch.equal(found["l"], LENS)


@pytest.mark.parametrize("lens", ["lens", 1, lambda i, o: i["lens"], lambda i, o: i[1], lambda i, o: {"l": o[1].int()}])
def test_read_from_inputs_and_output(lens):
    assert same(lens_of(lens))
    assert same(tap(MODEL, ["l"], lens="lens")(x=X, lens=LENS).lens), "inputs by name"
    assert same(tap(MODEL, ["l"], lens_fn=1)(X, LENS).lens)


@pytest.mark.parametrize(
    "lens, message",
    [
        (lambda i, o: o[1] / 7, r"float32, expected integers: .*\(fractions \* 7\).round\(\).long\(\)"),
        (lambda i, o: torch.arange(7) < o[1][:, None], r"is a mask \(3, 7\), .*: give mask.sum\(1\)"),
        (lambda i, o: o[1] * 160, r"lies in \[480, 1120\], .* T = 7 frames; count frames of this layer"),
        (lambda i, o: -o[1], r"lies in \[-7, -3\]"),
        (lambda i, o: {"L": o[1]}, "unknown layer 'L', known are l, logits"),
        (lambda i, o: [7, 5, 3], r"integer tensor \(rows,\), or one by layer, got list"),
        (lambda i, o: {"l": [7, 5, 3]}, "'l' must be an integer tensor .* got list"),
        (lambda i, o: o[1][:2], r"shape \(2,\) for 3 rows; read it from the inputs"),
        (lambda i, o: o[1] > 4, "is bool, expected integers"),
        ("length", "no input 'length' of this pass, which has 0, 1, x, lens"),
    ],
)
def test_refusals(lens, message):
    with pytest.raises(ValueError, match=message):
        lens_of(lens)


def test_the_remedies_work():
    for lens in (lambda i, o: (o[1] / 7 * 7).round().long(), lambda i, o: (torch.arange(7) < o[1][:, None]).sum(1)):
        assert same(lens_of(lens))


def test_channels_before_time():
    """(N, C, T) is refused until time_dim is said, and then equals the layer transposed."""
    conv, x, lens = nn.Sequential(nn.Conv1d(4, 16, 3)), torch.randn(2, 4, 12), torch.tensor([10, 4])
    both = lens.repeat(2)
    with pytest.raises(ValueError, match=r"is \(N, C, T\); say tap\(..., time_dim=\{'0': 2\}\)"):
        tap(conv, ["0"], lens=lambda i, o: lens)(x)
    tapped = tap(conv, ["0"], lens=lambda i, o: both, time_dim=2)
    ours = IRLLoss(0, 0, 1, distance=L2())(tapped, x, [x + 1], None).dist
    frames = (conv(x) - conv(x + 1)).norm(dim=1)
    torch.testing.assert_close(ours, sum(frames[i, :n].mean() for i, n in enumerate(lens)) / 2)
    first = tap(conv, ["0"], lens=lambda i, o: lens, time_dim={"0": 2}, batch_dim=0)(x)
    assert first.hidden["0"].shape == (2, 10, 16)
    with pytest.raises(ValueError, match="is no sequence"):
        tap(MODEL, ["out"], lens=lambda i, o: {"out": o[1]})(X, LENS)
    assert not tap(MODEL, ["out"], lens="lens")(X, LENS).lens, "one for all is of sequences alone"


@pytest.mark.parametrize("a, b", [(5, 7), (7, 5)])
def test_the_shorter_view_counts_and_padding_may_hold_anything(a, b):
    """Also NaN, whose gradient stays out."""
    clean, noisy = torch.randn(3, 7, 4), torch.randn(3, 7, 4)
    found = []
    for junk in (0.0, 100.0, float("nan"), float("inf")):
        views = [clean.clone(), noisy.clone()]
        hidden = []
        for view, n in zip(views, (a, b)):
            view[:, n:] = junk
            hidden.append(view.requires_grad_())
        model = tap(nn.Sequential(nn.Identity()), ["0"], lens=lambda i, o: torch.tensor([a, a, a, b, b, b]))
        terms = IRLLoss(0, 0, 1)(model, hidden[0], hidden[1:], None)
        found.append([terms.dist, *torch.autograd.grad(terms.dist, hidden)])
    assert found[0][0] > 0 and all(torch.equal(x, y) for other in found[1:] for x, y in zip(found[0], other))
    assert not found[0][1][:, 5:].any()


def test_next_example_and_terms_of_other_lengths():
    """Pairs within a batch have the frames of the shorter."""
    loss = IRLLoss(0, 1, 1, pairs="in_batch", distance=L2())
    tapped = tap(MODEL, ["l"], lens="lens")
    junk = X.clone()
    for i, n in enumerate(LENS):
        junk[i, n:] = 50.0
    values = [loss(tapped, None, [(x, LENS)], lambda v: v.logits[0].sum() * 0).dist for x in (X, junk)]
    assert torch.equal(*values)
