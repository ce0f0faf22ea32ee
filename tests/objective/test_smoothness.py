"""Derivatives against autograd's Jacobians, closed forms and noise itself, in float64."""

import pytest
import torch
from torch import nn

from irl import Output, tap
from irl.core.output import lens_to_mask
from irl.models.lstm_lm import LSTMLM, FromEmbeddings, LSTMLMConfig
from irl.models.wide_resnet import WideResNet, WideResNetConfig
from irl.objective.covariance import Diagonal, Full, Isotropic
from irl.objective.smoothness import METHODS, lambda_r, omega_r, push_forward, squares
from irl.training.running_covariance import NoiseCovariance


class Smooth(nn.Module):
    """Two smooth layers over six inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        a = torch.tanh(self.first(x))
        b = torch.tanh(self.second(a))
        return Output(self.out(b), {"a": a, "b": b})


@pytest.fixture
def model():
    return Smooth().double()


@pytest.fixture
def x():
    return torch.randn(4, 6, dtype=torch.float64)


def covariance(size=6):
    root = torch.randn(size, size - 1, dtype=torch.float64)
    return root @ root.T  # not of full rank


SIGMAS = {
    "isotropic": lambda: (Isotropic(0.7), 0.49 * torch.eye(6, dtype=torch.float64)),
    "diagonal": lambda: (Diagonal(torch.arange(1.0, 7)), torch.diag(torch.arange(1.0, 7)).double()),
    "full": lambda: (lambda c: (Full(c), c))(covariance()),
}


def jacobian(function, x):
    """(N, D, inputs) of a function of single samples."""
    rows = [torch.autograd.functional.jacobian(lambda v: function(v[None])[0].flatten(), row) for row in x]
    return torch.stack(rows).flatten(2)


@pytest.mark.parametrize("kind", SIGMAS)
def test_exact_is_the_trace_over_jacobians(model, x, kind):
    sigma, matrix = SIGMAS[kind]()
    found = lambda_r(model, x, sigma, "exact", layers=["a", "b", "logits"])
    assert list(found) == ["a", "b", "logits"]
    for name, values in found.items():
        j = jacobian(lambda v: model(v).named()[name], x)
        assert torch.allclose(values, torch.einsum("nij,jk,nik->n", j, matrix, j), rtol=1e-10)


@pytest.mark.parametrize("method", ["forward", "reverse"])
@pytest.mark.parametrize("kind", SIGMAS)
def test_estimates_are_unbiased_with_the_stated_variance(model, x, kind, method):
    sigma, matrix = SIGMAS[kind]()
    many, count = x[:1].expand(20000, -1), 20000
    found = lambda_r(model, many, sigma, method)["b"].detach()
    j = jacobian(lambda v: model(v).hidden["b"], x[:1])[0]
    m = j @ matrix @ j.T
    expected = m.trace()
    if method == "forward":
        variance = 2 * (m @ m).trace()
    else:
        size = len(m)
        variance = 2 * (size * (m @ m).trace() - expected**2) / (size + 2)
    assert abs(found.mean() - expected) < 4 * (variance / count).sqrt()
    # The fourth moments are those of a form of Gaussian variables: within 10 % for that many.
    assert found.var() == pytest.approx(float(variance), rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_omega_follows_its_definition(model, x, method):
    sigma, matrix = SIGMAS["full"]()
    target = torch.tensor([0, 2, 1, 1])
    soft = torch.rand(4, 3, dtype=torch.float64).softmax(-1)
    j = jacobian(lambda v: model(v).logits.log_softmax(-1), x)
    each = torch.einsum("nij,jk,nik->ni", j, matrix, j) / 2
    for y, expected in ((target, each.gather(1, target[:, None])[:, 0]), (soft, (soft * each).sum(1))):
        if method == "forward":
            found = omega_r(model, x.repeat(20000, 1), y.repeat(20000, *[1] * (y.dim() - 1)), sigma)
            assert torch.allclose(found.view(-1, 4).mean(0), expected, rtol=0.06)
        else:
            assert torch.allclose(omega_r(model, x, y, sigma, method), expected, rtol=1e-10)


def test_lengths_leave_padding_out(x):
    def frames(v):
        h = torch.tanh(v.cumsum(1))
        lens = torch.tensor([3, 1])
        return Output(h, {"h": h}, {"h": lens, "logits": lens})

    x = torch.randn(2, 3, 4, dtype=torch.float64)
    exact = lambda_r(frames, x, Isotropic(), "exact")["h"].detach()
    for row, (values, n) in enumerate(zip(x, (3, 1))):
        j = jacobian(lambda v: frames(v).logits[:, :n], values[None])[0]
        assert exact[row] == pytest.approx(float(j.square().sum()) / n, rel=1e-10)
    many = x.repeat(4000, 1, 1)

    def repeated(v):
        lens = torch.tensor([3, 1]).repeat(len(v) // 2)
        return frames(v)._replace(lens={"h": lens})

    for method in ("forward", "reverse"):
        mean = lambda_r(repeated, many, Isotropic(), method)["h"].view(-1, 2).mean(0)
        assert torch.allclose(mean, exact, rtol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_they_can_be_trained_on(model, x, method):
    """The gradient by a weight against finite differences."""

    def value():
        generator = torch.Generator().manual_seed(3)
        found = lambda_r(model, x, Isotropic(), method, generator=generator)
        omega = omega_r(model, x, torch.tensor([0, 1, 2, 0]), Isotropic(), method, generator=generator)
        return sum(v.mean() for v in found.values()) + omega.mean()

    weight = model.first.weight
    (gradient,) = torch.autograd.grad(value(), weight)
    for place in ((0, 0), (3, 4)):
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += step
            ends.append(float(value().detach()))
            with torch.no_grad():
                weight[place] -= step
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_no_graph_is_kept_without_gradients(model, x):
    with torch.no_grad():
        for method in METHODS:
            assert not any(v.requires_grad for v in lambda_r(model, x, method=method).values())


def wide_resnet():
    network = WideResNet(4, WideResNetConfig(10, 1)).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network


def test_the_pass_by_hand_is_that_of_dual_tensors():
    network = wide_resnet()
    x, tangents = torch.randn(3, 3, 8, 8).double(), torch.randn(2, 3, 3, 8, 8).double()
    value, moved = network.push_forward(x, tangents)
    for i, tangent in enumerate(tangents):
        # Through a function the method is not seen.
        expected_value, (expected,) = push_forward(lambda v: network(v), x, [tangent])
        assert list(moved.hidden) == list(expected.hidden)
        assert len(moved.extra) == 1 + 3
        for name, h in expected.named().items():
            assert torch.allclose(moved.named()[name][i], h, rtol=1e-9, atol=1e-12), name
            assert torch.allclose(value.named()[name], expected_value.named()[name], rtol=1e-9, atol=1e-12)
    network.train()
    with pytest.raises(ValueError, match="need eval mode"):
        network.push_forward(x, tangents)


def test_the_pass_by_hand_has_the_gradients_of_dual_tensors():
    network, x = wide_resnet(), torch.randn(2, 3, 8, 8).double()
    found = []
    for model in (network, lambda v: network(v)):
        values = lambda_r(model, x, layers=["group3.block0", "logits"], generator=torch.Generator().manual_seed(2))
        total = sum(value.mean() for value in values.values())
        found.append(torch.autograd.grad(total, list(network.parameters()), allow_unused=True))
    for ours, theirs in zip(*found):
        assert (
            (ours is None or not ours.any()) if theirs is None else torch.allclose(ours, theirs, rtol=1e-8, atol=1e-12)
        )


def test_half_precision_of_a_model_does_not_reach_covariances(model, x):
    running = NoiseCovariance((6,))
    with torch.autocast("cpu", torch.bfloat16):
        running.update(x.float(), x.float() + torch.randn(4, 6))
        found = lambda_r(model.float(), x.float(), running.sigma())
    assert running.covariance.dtype == torch.float32 and all(v.isfinite().all() for v in found.values())
    assert squares(torch.full((2, 64, 32, 32), 2.0, dtype=torch.float16), None).tolist() == [4.0 * 64 * 1024] * 2


def test_all_draws_at_once_are_those_one_by_one():
    network, x = wide_resnet(), torch.randn(3, 3, 8, 8).double()
    # Convolutions within blocks are layers too.
    tapped = tap(network, ["conv", "blocks.group1_block0.conv1"])
    inner = [
        lambda_r(m, x, layers=layers, generator=torch.Generator().manual_seed(1))
        for m, layers in ((network, ["conv", "group1.block0.conv1"]), (tapped, None))
    ]
    for ours, theirs in zip(*(found.values() for found in inner)):
        assert torch.allclose(ours, theirs, rtol=1e-9)
    found = [
        lambda_r(m, x, draws=3, generator=torch.Generator().manual_seed(1)) for m in (network, lambda v: network(v))
    ]
    assert list(found[0]) == network.names
    assert all(torch.allclose(found[0][name], found[1][name], rtol=1e-9) for name in found[0])


def test_tapped_models(x):
    plain = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    tapped = tap(plain, ["1"])
    exact = lambda_r(tapped, x, method="exact")
    forward = lambda_r(tapped, x.repeat(20000, 1))["1"].view(-1, 4).mean(0)
    assert torch.allclose(forward, exact["1"], rtol=0.05)


def test_language_models_by_their_embeddings():
    model = LSTMLM(11, LSTMLMConfig(units=5, embedding_units=4, init=0.5)).double().eval()
    lens = torch.tensor([4, 4])

    words = torch.randint(11, (2, 4))
    x = model.embed(words).detach()
    assert torch.equal(FromEmbeddings(model)(x).logits, model(words, lens).logits)
    tangent = torch.randn_like(x)
    _, (moved,) = push_forward(FromEmbeddings(model), x, [tangent])
    step = 1e-6
    with torch.no_grad():
        ends = [FromEmbeddings(model)(x + sign * step * tangent).hidden["rnn.1"] for sign in (1, -1)]
    assert torch.allclose(moved.hidden["rnn.1"], (ends[0] - ends[1]) / (2 * step), atol=1e-7)


def test_bad_settings(model, x):
    for bad, message in (
        (lambda: lambda_r(model, x, method="backward"), "method must be one of forward, reverse, exact"),
        (lambda: lambda_r(model, x, draws=0), "draws must be at least 1"),
        (lambda: lambda_r(model, x, layers=["c"]), "unknown layer 'c'"),
        (lambda: Full(torch.ones(2, 3)), r"a covariance must be \(D, D\)"),
        (lambda: lambda_r(model, x, Full(-torch.eye(6))), "must not have negative eigenvalues"),
        (lambda: lambda_r(model, x, Full(torch.eye(5))), "the covariance is of 5 numbers, a sample is"),
        (lambda: NoiseCovariance((3,), rate=0), r"rate must be in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


def test_squares_of_frames():
    h, lens = torch.randn(2, 3, 4), torch.tensor([3, 2])
    mask = lens_to_mask(lens, 3)
    assert torch.allclose(squares(h, lens), (h.square().sum(2) * mask).sum(1) / lens)
    assert torch.allclose(squares(h, None), h.flatten(1).square().sum(1))
