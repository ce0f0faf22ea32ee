"""The kernels for GPUs, in Triton's interpreter, beside torch's operations. tools/bench/gpu.sh checks them on a GPU."""

import pytest
import torch

from irl import KL, L2, Cosine, IRLLoss, Output
from irl.core.rng import Keys
from irl.objective import pair_sums
from irl.objective.distances import ZERO_NORM, Norms

kernels = pytest.importorskip("irl.core.kernels")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU they are not interpreted")
PARTS = [*(L2(kind) for kind in ("norm", "squared", "mean", "relative")), Cosine(), Norms()]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """As on a GPU, but for float64, which the references below are in."""
    monkeypatch.setattr(kernels, "LONGEST", 64)
    for name in ("irl.objective.pair_sums.kernels_for", "irl.core.rng.kernels_for"):
        monkeypatch.setattr(name, lambda x: kernels if x.dtype != torch.float64 else None)


@pytest.mark.parametrize("n", [1, 4, 11])
def test_draws(monkeypatch, n):
    keys = Keys(torch.arange(2**40, 2**40 + 300) * 3 + 1, 7, "a/b", 3, 2)
    found = keys.bits(n), keys.bits_of(["x", "y"], n)
    monkeypatch.setattr("irl.core.rng.kernels_for", lambda x: None)
    assert torch.equal(found[0], keys.bits(n)) and torch.equal(found[1], keys.bits_of(["x", "y"], n))


def pairs():
    """Rows of one chunk and of several, of zeros and of equal vectors."""
    a = [torch.randn(5, 3, 7), torch.randn(4, 1, 200), torch.randn(2, 2, 64)]
    b = [x + 0.1 * torch.randn_like(x) for x in a]
    a[0][0, 0] = b[0][0, 1] = a[0][2, 2] = b[0][2, 2] = 0
    b[0][1, 1] = a[0][1, 1]
    return [tuple(x.requires_grad_() for x in pair) for pair in zip(a, b)]


@pytest.mark.parametrize("distance", [*PARTS, 0.3 * L2("mean") + 2 * Cosine()], ids=repr)
def test_distances_and_gradients(distance):
    made = pairs()
    leaves = [x for pair in made for x in pair]
    expected = [distance(a.double(), b.double()) for a, b in made]
    grads = [torch.randn_like(x) for x in expected]
    found = [distance.combine(parts) for parts in distance.parts(made)]
    for x, y in zip(found, expected):
        assert x.dtype == torch.float32 and torch.allclose(x.double(), y, rtol=1e-5, atol=1e-6)
    slopes, right = (
        torch.autograd.grad(sum((x * g).sum() for x, g in zip(values, grads)), leaves) for values in (found, expected)
    )
    for x, y in zip(slopes, right):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-6)


def test_second_derivatives():
    a, b = (x.detach()[:, :1, :3].requires_grad_() for x in pairs()[1])
    distance = L2("mean") + Cosine()

    def bent(a, b):
        (slope,) = torch.autograd.grad(distance(a, b).sum(), a, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), (a, b))

    for x, y in zip(bent(a, b), bent(*(x.detach().double().requires_grad_() for x in (a, b)))):
        assert torch.allclose(x.double(), y, rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_stays_so():
    a, b = torch.randn(4, 1, 9), torch.randn(4, 1, 9)
    a[0, 0, 3], b[1, 0, 2] = torch.nan, torch.inf
    assert Cosine()(a, b)[:, 0].isfinite().tolist() == [False, False, True, True]
    assert L2("squared")(a, b)[:, 0].isfinite().tolist() == [False, False, True, True]


def test_constants_are_those_of_the_distances():
    assert kernels.ZERO == pytest.approx(ZERO_NORM**2)
    assert {part.kernel for part in PARTS} == set(kernels.KINDS)


@pytest.mark.parametrize(
    "copies, over, stop_grad, dtype, extra",
    [
        (1, "frame", "none", torch.float32, False),
        (2, "frame", "clean", torch.bfloat16, False),
        (1, "frame", "clean", torch.float32, True),
        (3, "frame", "none", torch.float32, True),
        (2, "sample", "none", torch.bfloat16, False),
    ],
)
def test_the_objective(monkeypatch, copies, over, stop_grad, dtype, extra):
    """Layers with and without lengths, of one size and of several. KL has no kernel; the others beside it have."""
    lens = torch.tensor([6, 3, 1])
    shapes = {"a": (3, 6, 5), "b": (3, 6, 5), **({"c": (3, 4, 2, 2)} if extra else {})}
    clean = {name: torch.randn(shape) for name, shape in shapes.items()}
    views = []
    for _ in range(1 + copies):
        hidden = {n: (x + 0.2 * torch.randn_like(x)).to(dtype).requires_grad_() for n, x in clean.items()}
        views.append(Output(torch.randn(3, 2), hidden, {"a": lens, "b": lens}))
    distance = 0.3 * L2("mean") + Cosine() + (0.5 * KL() if extra and copies == 3 else 0.1 * Norms())
    weights = dict(zip(shapes, (1.0, 0.5, 2.0)))
    loss = IRLLoss(distance=distance, layers=weights, over=over, stop_grad=stop_grad)
    leaves = [x for view in views for x in view.hidden.values()]

    def run(made):
        terms = loss.terms(made, None)
        return terms, torch.autograd.grad(terms.total, leaves, allow_unused=True)

    found, slopes = run(views)
    monkeypatch.setattr(pair_sums, "kernels_for", lambda x: None)
    expected, right = run([view._replace(hidden={n: x.double() for n, x in view.hidden.items()}) for view in views])
    assert list(found.per_layer) == list(expected.per_layer) and found.parts.keys() == expected.parts.keys()
    for x, y in (
        (found.dist, expected.dist),
        *((found.per_layer[n], expected.per_layer[n]) for n in weights),
        *((found.parts[p][n], expected.parts[p][n]) for p in found.parts for n in weights),
    ):
        assert torch.allclose(x.double(), y, rtol=1e-5, atol=1e-6)
    for x, y in zip(slopes, right, strict=True):
        assert (x is None) == (y is None)
        assert x is None or (x - y).abs().max() <= (2e-2 if dtype == torch.bfloat16 else 1e-5) * y.abs().max()
