import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from irl.core.output import Output
from irl.core.rng import Keys
from irl.noise.adversarial import (
    KINDS,
    Attack,
    AttackConfig,
    _checkpoints,
    apgd,
    cross_entropy,
    dlr,
    fgsm,
    pgd,
    worst,
)
from irl.noise.lp_ball import LpBall

MEAN, STD = torch.tensor([100.0, 120.0, 140.0]), torch.tensor([50.0, 60.0, 70.0])


class Linear(nn.Module):
    """Logits w x of flattened images: what attacks should find is known in closed form."""

    def __init__(self, classes=4, size=3):
        super().__init__()
        self.layer = nn.Linear(3 * size * size, classes)

    def forward(self, x):
        return Output(self.layer(x.flatten(1)), {})


class Network(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, classes),
        )  # fmt: skip

    def forward(self, x):
        return Output(self.layers(x), {})


def attack(kind, **settings):
    return Attack(AttackConfig(kind=kind, **settings), MEAN, STD)


def keys(count):
    return Keys(torch.arange(count), 1, "attack")


def loss_of(model, x, y):
    with torch.no_grad():
        return F.cross_entropy(model.eval()(x).logits, y, reduction="none")


def test_fgsm_on_two_classes_is_the_closed_form():
    """Of logits w x the loss grows along the sign (L-inf) or the direction (L2) of w_other - w_own."""
    model, x, y = Linear(classes=2), torch.randn(6, 3, 3, 3), torch.tensor([0, 1, 0, 1, 1, 0])
    w = model.layer.weight.detach()
    direction = torch.stack([w[1 - label] - w[label] for label in y]).view_as(x)
    expected = x + 0.3 * direction.sign()
    torch.testing.assert_close(attack("fgsm", eps=0.3).apply(x, y, model), expected)
    length = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(attack("fgsm", eps=0.3, norm="l2").apply(x, y, model), x + 0.3 * direction / length)
    # On pixels eps is eps / std of normalised ones.
    found = attack("fgsm", eps=8.0, units="pixels").apply(x, y, model)
    torch.testing.assert_close(found, x + 8 * direction.sign() / STD.view(3, 1, 1))


@pytest.mark.parametrize("kind", ["pgd", "apgd_ce"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_iterated_attacks_reach_the_closed_form(kind, norm):
    model, x, y = Linear(classes=2), torch.randn(5, 3, 3, 3), torch.tensor([0, 1, 0, 1, 1])
    best = loss_of(model, attack("fgsm", eps=0.2, norm=norm).apply(x, y, model), y)
    found = attack(kind, eps=0.2, norm=norm, steps=40).apply(x, y, model, keys(5))
    # APGD may return any misclassified point; others must be the best there is.
    open_ = model(found).logits.argmax(1) == y if kind == "apgd_ce" else torch.ones(5, dtype=torch.bool)
    torch.testing.assert_close(loss_of(model, found, y)[open_], best[open_], rtol=5e-3, atol=1e-3)


@given(
    kind=st.sampled_from(KINDS),
    norm=st.sampled_from(["linf", "l2"]),
    units=st.sampled_from(["normalised", "pixels"]),
    clip=st.booleans(),
    eps=st.floats(0.05, 2.0),
)
def test_what_is_found_lies_in_the_ball(kind, norm, units, clip, eps):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, 8, 8)).float()
    x, y = (pixels - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1), torch.arange(4)
    before = x.clone()
    eps = eps * (50 if units == "pixels" else 1)
    norm, against = ("l2", "itself") if kind == "vat" else (norm, "labels")
    settings = {"eps": eps, "norm": norm, "units": units, "clip": clip, "steps": 4, "against": against}
    found = attack(kind, **settings).apply(x, y, Network().eval(), keys(4))
    assert torch.equal(x, before) and not found.requires_grad
    away = (found - x) * (STD.view(3, 1, 1) if units == "pixels" else 1.0)
    size = away.abs().flatten(1).amax(1) if norm == "linf" else away.flatten(1).norm(dim=1)
    assert (size <= eps * (1 + 1e-4) + 1e-4).all()
    if kind in ("fgsm", "random", "vat") and not clip:
        torch.testing.assert_close(size, torch.full_like(size, eps), rtol=1e-3, atol=1e-3)
    if clip:
        back = found * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)
        assert back.min() >= -1e-3 and back.max() <= 255 + 1e-3


def test_zero_gradients_leave_the_image():
    model = Linear()
    nn.init.zeros_(model.layer.weight)
    x, y = torch.randn(3, 3, 3, 3), torch.zeros(3, dtype=torch.int64)
    for norm in ("linf", "l2"):
        assert torch.equal(attack("fgsm", norm=norm).apply(x, y, model), x)


@pytest.mark.parametrize("eval_mode", [True, False])
def test_the_model_is_left_as_it_was(eval_mode):
    model = Network().train()
    model.layers[5].eval()  # a module in a mode of its own
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    x, y = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    found = attack("pgd", eval_mode=eval_mode, steps=3).apply(x, y, model, keys(4))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes and model.layers[1].momentum == 0.1
    assert all(p.grad is None for p in model.parameters())
    # In eval mode an image's attack does not depend on the batch around it.
    alone = attack("pgd", eval_mode=eval_mode, steps=3).apply(x[:1], y[:1], model, keys(1))
    assert torch.allclose(alone, found[:1], atol=1e-5) == eval_mode


def trained():
    torch.manual_seed(1)
    model = Network()
    x = torch.randn(64, 3, 8, 8)
    y = (x.flatten(1)[:, :5]).argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        F.cross_entropy(model(x).logits, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), x, y


def test_stronger_attacks_find_more():
    model, x, y = trained()
    assert (model(x).logits.argmax(1) == y).float().mean() > 0.9
    k = keys(64)
    found = {
        "random": attack("random", eps=0.2).apply(x, y, model, k),
        "fgsm": attack("fgsm", eps=0.2).apply(x, y, model),
        "pgd": attack("pgd", eps=0.2, steps=20).apply(x, y, model, k),
        "apgd_ce": attack("apgd_ce", eps=0.2, steps=40).apply(x, y, model, k),
        "apgd_dlr": attack("apgd_dlr", eps=0.2, steps=40).apply(x, y, model, k),
    }
    wrong = {name: int((model(z).logits.argmax(1) != y).sum()) for name, z in found.items()}
    assert wrong["random"] < wrong["fgsm"] <= wrong["pgd"] <= wrong["apgd_ce"]
    assert wrong["apgd_dlr"] > wrong["random"]


def test_restarts_never_find_less():
    model, x, y = trained()
    wrong = {}
    for restarts in (2, 5):
        z = attack("pgd", eps=0.05, steps=2, restarts=restarts).apply(x, y, model, keys(64))
        wrong[restarts] = (model(z).logits.argmax(1) != y).detach()
    assert (wrong[5] | ~wrong[2]).all()


@pytest.mark.parametrize("kind", ["random", "pgd", "apgd_ce"])
def test_random_draws_need_keys(kind):
    a = attack(kind)
    with pytest.raises(ValueError, match=f"attack {kind!r} draws at random: give keys"):
        a.apply(torch.zeros(1, 3, 3, 3), torch.zeros(1, dtype=torch.int64), Linear())


def test_attacks_are_plain_functions():
    """Of a model, a ball and labels, whatever the shape of a sample; the configured attack calls them."""
    model, y = nn.Linear(6, 4), torch.tensor([0, 1, 2])
    x, k = torch.rand(3, 6), keys(3)
    ball = LpBall(x, 0.1, bounds=(torch.zeros(6), torch.ones(6)))
    points = [fgsm(model, ball, y), pgd(model, ball, y, k, steps=3), apgd(model, ball, y, k, dlr, steps=3)]
    points.append(worst(model, ball, y, points))
    for z in (*points, ball.surface_point(k)):
        assert z.shape == x.shape and (z - x).abs().max() <= 0.1 + 1e-6 and 0 <= z.min() and z.max() <= 1
    wrong = torch.stack([model(z).argmax(1) != y for z in points])
    assert torch.equal(wrong[-1], wrong[:-1].any(0))
    network, images = Linear(), torch.randn(3, 3, 3, 3)
    plain = pgd(lambda z: network(z).logits, LpBall(images, 0.3), y, k.sub("restart0"), steps=4)
    assert torch.equal(plain, attack("pgd", eps=0.3, steps=4).apply(images, y, network, k))


def test_dlr_follows_its_definition():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
    expected = [-(3 - 2) / (3 - 1), -(1 - 3) / (3 - 1), -(5 - 0) / (5 - 0)]
    assert dlr(logits, torch.tensor([0, 1, 3])).tolist() == pytest.approx(expected)
    # It does not depend on scale and shift of the logits, where the cross-entropy does.
    y = torch.tensor([0, 1, 3])
    torch.testing.assert_close(dlr(10 * logits + 7, y), dlr(logits, y))
    assert not torch.allclose(cross_entropy(10 * logits, y), cross_entropy(logits, y))


def test_checkpoints_are_the_published_ones():
    assert sorted(_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize(
    "wrong", [{"kind": "cw"}, {"norm": "l1"}, {"units": "1"}, {"eps": -1.0}, {"eps": math.nan}, {"steps": 0}]
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AttackConfig(**wrong)
