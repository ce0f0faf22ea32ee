import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sequences import Sequence, batch, task
from torch import nn
from torch.nn import functional as F

from irl import KL, L2, PRESETS, Cosine, IRLLoss, Output, tap
from irl.objective.distances import Norms


def plain(loss, model, clean, noisy, y, distance):
    """The paper's equation as loops over samples, copies, layers and frames."""
    outs = [model(*view) for view in [clean, *noisy]]
    n = len(y)
    nll = [[-out.logits[i].log_softmax(-1)[y[i]] for i in range(n)] for out in outs]
    clean_loss = sum(nll[0]) / n
    noisy_loss = sum(sum(values) / n for values in nll[1:]) / len(noisy)
    pairs = {
        "clean": [(0, k) for k in range(1, len(outs))],
        "noisy": list(itertools.combinations(range(1, len(outs)), 2)),
    }
    pairs["all"] = pairs["clean"] + pairs["noisy"]
    weights = loss.layers or {"l.0": 1.0, "l.1": 1.0}
    dist = 0.0
    for layer, weight in weights.items():
        values = []
        for i in range(n):
            length = int(outs[0].lens[layer][i])
            for a, b in pairs[loss.pairs]:
                u, v = outs[a].hidden[layer][i, :length], outs[b].hidden[layer][i, :length]
                if loss.over == "sample":
                    values.append(distance(u.flatten(), v.flatten()))
                else:
                    values.append(sum(distance(u[t], v[t]) for t in range(length)) / length)
        dist += weight * sum(values) / len(values)
    return loss.alpha * clean_loss + loss.beta * noisy_loss + loss.gamma * dist


def textbook(a, b):
    return 0.1 * (a - b).norm() + 1 - a @ b / (a.norm() * b.norm())


@pytest.mark.parametrize("copies, pairs", [(1, "clean"), (3, "clean"), (3, "noisy"), (3, "all")])
@pytest.mark.parametrize("over", ["frame", "sample"])
@pytest.mark.parametrize("layers", [None, {"l.1": 0.7}, {"l.0": 0.2, "l.1": 2.0}])
def test_equals_plain_loops(copies, pairs, over, layers):
    model = Sequence().double()
    clean, noisy, y = batch(copies)
    loss = IRLLoss(0.3, 0.6, 1.7, distance=0.1 * L2() + Cosine(), layers=layers, pairs=pairs, over=over)
    terms = loss(model, clean, noisy, task(y))
    expected = plain(loss, model, clean, noisy, y, textbook)
    torch.testing.assert_close(terms.total, expected, rtol=1e-9, atol=1e-11)
    parameters = list(model.parameters())
    for got, want in zip(torch.autograd.grad(terms.total, parameters), torch.autograd.grad(expected, parameters)):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(terms.total, 0.3 * terms.clean + 0.6 * terms.noisy + 1.7 * terms.dist)
    for layer, value in terms.per_layer.items():
        torch.testing.assert_close(value, 0.1 * terms.parts["l2"][layer] + terms.parts["cosine"][layer])


@pytest.mark.parametrize("kind", ["squared", "mean"])
def test_mean_over_units_ignores_padding_when_flattened(kind):
    model = Sequence().double()
    clean, noisy, y = batch()
    loss = IRLLoss(distance=1.0 * L2(kind), over="sample")

    def distance(a, b):
        return ((a - b) ** 2).sum() / (len(a) if kind == "mean" else 1)

    torch.testing.assert_close(loss(model, clean, noisy, task(y)).total, plain(loss, model, clean, noisy, y, distance))


def test_mean_norms_ignore_padding_when_flattened():
    model = Sequence().double()
    clean, noisy, y = batch()
    loss = IRLLoss(distance=1.0 * Norms(), over="sample")

    def distance(a, b):
        return ((a**2).sum() + (b**2).sum()) / (2 * len(a))

    torch.testing.assert_close(loss(model, clean, noisy, task(y)).total, plain(loss, model, clean, noisy, y, distance))


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(["frame", "sample"]))
def test_padding_moves_nothing(seed, extra, over):
    torch.manual_seed(seed)
    model = Sequence().double()
    (x, lens), noisy, y = batch(2)
    loss = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2() + Cosine() + L2("mean"), over=over)

    def padded(view):
        return torch.cat([view[0], torch.randn(3, extra, 4, dtype=torch.float64)], dim=1), lens

    a = loss(model, (x, lens), noisy, None)
    b = loss(model, padded((x, lens)), [padded(view) for view in noisy], None)
    torch.testing.assert_close(a.dist, b.dist)


def test_gamma_zero_is_irl_batching_bit_for_bit():
    model = Sequence()
    clean, noisy, y = batch(2, dtype=torch.float32)
    with_zero = IRLLoss.preset("irl_batching", distance=KL() + L2())(model, clean, noisy, task(y))
    stacked = model(torch.cat([v[0] for v in [clean, *noisy]]), clean[1].repeat(3))
    losses = [F.cross_entropy(stacked.logits[3 * k : 3 * k + 3], y) for k in range(3)]
    assert torch.equal(with_zero.total, 0.5 * losses[0] + 0.5 * torch.stack(losses[1:]).mean())
    assert not with_zero.per_layer and with_zero.gamma == 0
    # A warm-up that has not begun is the same.
    assert torch.equal(IRLLoss(warmup=10)(model, clean, noisy, task(y), step=0).total, with_zero.total)


def test_views_of_weight_zero_are_not_forwarded():
    rows = []

    class Counting(Sequence):
        def forward(self, x, lens):
            rows.append(len(x))
            return super().forward(x, lens)

    model = Counting()
    clean, noisy, y = batch(2, dtype=torch.float32)
    for name in ("baseline", "data_aug", "irl_batching", "irl_loss"):
        IRLLoss.preset(name)(model, clean, noisy, task(y))
    IRLLoss(0, 1, 1, pairs="noisy")(model, None, noisy, task(y))
    assert rows == [3, 6, 9, 9, 6]
    assert PRESETS["irl_loss"] == (0.5, 0.5, 1.0) and PRESETS["weighted_adversarial_irl_loss"] == (0.8, 0.2, 1.0)


@pytest.mark.parametrize("side", ["none", "clean", "noisy"])
def test_stop_grad(side):
    views = [
        Output(torch.zeros(2, 3), {"h": torch.randn(2, 5, dtype=torch.float64, requires_grad=True)}) for _ in range(2)
    ]
    IRLLoss(alpha=0, beta=0, stop_grad=side).terms(views, None).total.backward()
    has = [view.hidden["h"].grad is not None for view in views]
    assert has == [side != "clean", side != "noisy"]


def test_kl_on_logits_and_extra_outputs_as_layers():
    """Stability training supervises the logits; CTC consistency an extra output among noisy views."""
    model = Sequence().double()
    clean, noisy, y = batch(2)
    terms = IRLLoss(1, 0, 1, distance=1.0 * KL(), layers={"logits": 1.0})(model, clean, noisy, task(y))
    p = model(*clean).logits.log_softmax(-1)
    expected = sum(F.kl_div(model(*v).logits.log_softmax(-1), p, log_target=True, reduction="batchmean") for v in noisy)
    torch.testing.assert_close(terms.dist, expected / 2)
    consistency = IRLLoss(0, 1, 1, distance=KL(symmetric=True, detach_target=True), layers=["aux"], pairs="noisy")
    assert list(consistency(model, None, noisy, task(y)).per_layer) == ["aux"]


def test_from_layer_and_order():
    model = Sequence()
    clean, noisy, y = batch(dtype=torch.float32)
    assert list(IRLLoss(from_layer="l.1")(model, clean, noisy, task(y)).per_layer) == ["l.1"]
    assert list(IRLLoss(layers=["l.1", "l.0"])(model, clean, noisy, task(y)).per_layer) == ["l.0", "l.1"]
    for setting in ({"layers": {"x": 1.0}}, {"from_layer": "x"}, {"from_layer": "logits"}):
        with pytest.raises(ValueError, match="unknown layer .*, known are l.0, l.1, aux, logits"):
            IRLLoss(**setting)(model, clean, noisy, task(y))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"gamma": -1}, "gamma must be finite and not negative, got -1"),
        ({"alpha": float("nan")}, "alpha must be finite"),
        ({"alpha": 0, "beta": 0, "gamma": 0}, "all 0"),
        ({"pairs": "some"}, "pairs must be one of"),
        ({"stop_grad": "yes"}, "stop_grad must be one of"),
        ({"over": "time"}, "over must be one of"),
        ({"warmup": -1}, "warmup"),
        ({"layers": "h"}, "sequence of names"),
        ({"layers": {"h": -1.0}}, "weight of layer h"),
        ({"layers": ["h"], "from_layer": "h"}, "not both"),
        ({"distance": KL() + L2(), "over": "sample"}, "over='frame'"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        IRLLoss(**settings)


def test_calls_that_make_no_sense():
    model = Sequence()
    clean, noisy, y = batch(dtype=torch.float32)
    with pytest.raises(ValueError, match="no noisy copy"):
        IRLLoss()(model, clean, [], task(y))
    with pytest.raises(ValueError, match=r"noisy must be a list of noisy copies, \[noisy\] for one, got Tensor"):
        IRLLoss()(model, clean, noisy[0][0], task(y))
    with pytest.raises(ValueError, match="distance must be a distance such as"):
        IRLLoss(distance={"l2": 1.0})
    with pytest.raises(ValueError, match="every output must have one row a sample"):
        IRLLoss()(lambda x, lens: Output(torch.zeros(()), {}), clean, noisy, task(y))
    with pytest.raises(ValueError, match="give the step"):
        IRLLoss(warmup=5)(model, clean, noisy, task(y))
    with pytest.raises(ValueError, match="at least 2 noisy copies"):
        IRLLoss(pairs="noisy")(model, clean, noisy, task(y))
    with pytest.raises(ValueError, match="not irl.Output; wrap it"):
        IRLLoss()(nn.Linear(4, 2), clean[0], [noisy[0][0]], task(y))
    with pytest.raises(ValueError, match="one shape"):
        IRLLoss()(model, clean, [(noisy[0][0][:, :3], noisy[0][1])], task(y))
    with pytest.raises(ValueError, match="no layer to compare"):
        IRLLoss().terms([Output(torch.zeros(2, 2), {})] * 2, None)
    with pytest.raises(ValueError, match="unknown row"):
        IRLLoss.preset("irl")


def test_tuple_dict_and_tensor_inputs():
    model = tap(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), ["0"])
    x, x2, y = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 0])
    values = [
        IRLLoss()(model, wrap(x), [wrap(x2)], task(y)).total for wrap in (lambda t: t, lambda t: (t,), lambda t: [t])
    ]
    assert all(torch.equal(v, values[0]) for v in values)

    class Named(nn.Module):
        def forward(self, x, scale, flag):
            assert flag == "on"
            return Output(x * scale, {"h": x * scale})

    pair = [{"x": v, "scale": torch.ones(3, 1), "flag": "on"} for v in (x, x2)]
    assert IRLLoss()(Named(), pair[0], pair[1:], task(y)).total.isfinite()
    with pytest.raises(ValueError, match="not a tensor: 'on' against 'off'"):
        IRLLoss()(Named(), pair[0], [{**pair[1], "flag": "off"}], task(y))
