import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl import KL, L2, Cosine
from irl.objective.distances import BY_NAME, CrossEntropy, Distance, Norms, Probabilities
from irl.objective.pair_sums import pair_sums

ALL = [
    L2("norm"),
    L2("squared"),
    L2("mean"),
    L2("relative"),
    Cosine(),
    KL(),
    KL(symmetric=True),
    KL(temperature=2.0),
    Norms(),
]


def plain(distance, a, b):
    """One pair of vectors as lists of Python floats, by the textbook formula."""
    d2 = math.fsum((x - y) ** 2 for x, y in zip(a, b))
    na, nb = math.sqrt(math.fsum(x * x for x in a)), math.sqrt(math.fsum(y * y for y in b))
    if isinstance(distance, Cosine):
        return 1 - math.fsum(x * y for x, y in zip(a, b)) / (na * nb)
    if isinstance(distance, Norms):
        return (na * na + nb * nb) / 2 / len(a)
    if isinstance(distance, L2):
        return {"norm": math.sqrt(d2), "squared": d2, "mean": d2 / len(a), "relative": math.sqrt(d2) / na}[
            distance.kind
        ]

    def softmax(v):
        e = [math.exp(x / distance.temperature) for x in v]
        return [x / math.fsum(e) for x in e]

    def kl(p, q):
        return math.fsum(x * math.log(x / y) for x, y in zip(p, q))

    p, q = softmax(a), softmax(b)
    return (kl(p, q) + kl(q, p)) / 2 if distance.symmetric else kl(p, q)


@pytest.mark.parametrize("distance", ALL, ids=repr)
def test_equals_a_plain_loop(distance):
    a, b = torch.randn(3, 4, 6, dtype=torch.float64), torch.randn(3, 4, 6, dtype=torch.float64)
    expected = [[plain(distance, a[i, j].tolist(), b[i, j].tolist()) for j in range(4)] for i in range(3)]
    torch.testing.assert_close(distance(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("distance", ALL, ids=repr)
def test_gradients(distance):
    a = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(distance, (a, b), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(distance, (a, b))


@pytest.mark.parametrize("distance", ALL, ids=repr)
@pytest.mark.parametrize("dtype, step", [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
def test_no_cancellation_for_close_vectors(distance, dtype, step):
    """a ~ b: value and gradient agree with float64 of the same inputs to a few parts in ten thousand."""
    a = torch.randn(4, 1, 256).to(dtype)
    # In bf16 the step is one unit in the last place, of some units only.
    b = (a.float() * (1 + step * (torch.rand_like(a.float()) < 0.3))).to(dtype)
    assert not torch.equal(a, b)
    narrow = [x.clone().requires_grad_() for x in (a, b)]
    wide = [x.double().requires_grad_() for x in (a, b)]
    value, exact = distance(*narrow), distance(*wide)
    assert value.dtype == torch.float32 and (exact > 0).all()
    torch.testing.assert_close(value.double(), exact, rtol=2e-3 if isinstance(distance, KL) else 2e-4, atol=1e-16)
    for x, y in zip(torch.autograd.grad(value.sum(), narrow), torch.autograd.grad(exact.sum(), wide)):
        assert x.dtype == dtype
        error = (x.double() - y).norm() / y.norm()
        assert error < (6e-3 if dtype == torch.bfloat16 else 2e-3)


def test_textbook_cosine_would_fail_there():
    """The check above can fail: 1 - a.b / |a||b| in float32 is off by its whole value."""
    a = torch.randn(4, 1, 256)
    b = a * (1 + 1e-5 * (torch.rand_like(a) < 0.3))
    exact = Cosine()(a.double(), b.double())
    textbook = 1 - torch.cosine_similarity(a, b, dim=-1)
    assert ((textbook - exact).abs() / exact).max() > 0.5


@pytest.mark.parametrize("distance", ALL, ids=repr)
def test_zero_vectors_and_equal_vectors(distance):
    x, zero = torch.randn(1, 1, 5), torch.zeros(1, 1, 5)
    for a, b in ((zero, zero), (x, x), (zero, x), (x, zero)):
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        value = distance(a, b)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()
        if torch.equal(a, b) and distance.name != "norms":
            assert value.abs().max() < 1e-12
    assert float(Cosine()(zero, x)) == 1 and float(Cosine()(x, zero)) == 1 and float(Cosine()(zero, zero)) == 0


def test_kl_of_distant_distributions_is_finite():
    a = torch.tensor([[[300.0, 0.0, -300.0]]], requires_grad=True)
    b = torch.tensor([[[-300.0, 0.0, 300.0]]], requires_grad=True)
    value = KL()(a, b)
    value.sum().backward()
    assert value.item() == pytest.approx(600.0) and torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()


@given(st.floats(0.01, 100), st.integers(1, 40), st.integers(0, 10**6))
def test_laws(scale, units, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(2, 3, units, generator=generator, dtype=torch.float64) for _ in range(2))
    for distance in (L2("norm"), L2("squared"), L2("mean"), Cosine(), KL(symmetric=True)):
        torch.testing.assert_close(distance(a, b), distance(b, a))
        assert (distance(a, b) >= 0).all()
    torch.testing.assert_close(Cosine()(scale * a, b), Cosine()(a, b), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(L2("relative")(scale * a, scale * b), L2("relative")(a, b))
    torch.testing.assert_close(L2()(scale * a, scale * b), scale * L2()(a, b))


def test_sums_and_weights():
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    both = 0.1 * L2() + Cosine() * 2
    torch.testing.assert_close(both(a, b), 0.1 * L2()(a, b) + 2 * Cosine()(a, b))
    assert set(both.parts([(a, b)])[0]) == {"l2", "cosine"}
    same = Distance.from_dict({"l2": 0.1, "cosine": 2.0})
    assert torch.equal(same(a, b), both(a, b))
    assert all(Distance.from_dict({name: 1.0}).weighted[0][1].name == name for name in BY_NAME)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L2("max"), "unknown kind"),
        (lambda: -1 * L2(), "not negative"),
        (lambda: math.nan * L2(), "finite"),
        (lambda: L2() + L2(), "twice"),
        (lambda: Distance.from_dict({"l3": 1.0}), "unknown distance 'l3', known are l2"),
        (lambda: Distance.from_dict({}), "at least one"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_stores_no_difference():
    """Autograd keeps the pair itself and scalars of each vector, nothing else of the pair's size."""
    a, b = torch.randn(8, 10, 64, requires_grad=True), torch.randn(8, 10, 64, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        (0.1 * L2() + Cosine())(a, b)
    large = [t for t in saved if t.numel() >= a.numel()]
    assert {t.data_ptr() for t in large} == {a.data_ptr(), b.data_ptr()}


def test_compiled_equals_eager():
    a, b = torch.randn(4, 3, 8, requires_grad=True), torch.randn(4, 3, 8, requires_grad=True)
    distance = 0.1 * L2() + Cosine() + KL()
    compiled = torch.compile(lambda x, y: distance(x, y).sum(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, b), distance(a, b).sum())
    for x, y in zip(torch.autograd.grad(compiled(a, b), (a, b)), torch.autograd.grad(distance(a, b).sum(), (a, b))):
        torch.testing.assert_close(x, y)


def test_pair_sums_forward_and_tangent_with_one_input():
    a, b, t = (torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a, t)
        tangents = [torch.autograd.forward_ad.unpack_dual(x).tangent for x in pair_sums(dual, b)]
    expected = [
        2 * ((a - b) * t).sum(-1),
        2 * (a * t).sum(-1),
        torch.zeros(3, dtype=torch.float64),
        2 * (a * t).sum(-1),
    ]
    for x, y in zip(tangents, expected):
        torch.testing.assert_close(x, y)


def test_classes_that_logits_exclude():
    """A logit of -inf: its class has probability 0, and what is left is compared, with finite gradients."""
    inf, y = math.inf, [0.5, 1.0, 2.0]
    a = torch.tensor([[[1.0, 2.0, -inf], [0.0, -inf, 1.0]]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[[2.0, 0.0, -inf], y]], dtype=torch.float64, requires_grad=True)
    p, q = a.softmax(-1), b.softmax(-1)
    logs = torch.where(p > 0, p.log() - q.log(), 0.0)
    entropy = -(p * torch.where(p > 0, p.log(), 0.0)).sum(-1)
    torch.testing.assert_close(KL()(a, b), (p * logs).sum(-1))
    torch.testing.assert_close(CrossEntropy()(a, b), (p * logs).sum(-1) + entropy)
    for distance in (KL(), CrossEntropy(), Probabilities()):
        assert all(g.isfinite().all() for g in torch.autograd.grad(distance(a, b).sum(), (a, b)))
    assert KL()(b, a)[0, 1] == inf, "what p has and q excludes"
