"""Each special case of egs/cifar/SPECIAL_CASES.md, as its file of configuration has it, against a plain implementation
of its own paper's formula on the same network, batch and noise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from irl import IRLLoss, Output
from irl.data.images import Images, write
from irl.noise.adversarial import attacked
from irl.noise.lp_ball import LpBall
from irl.objective import Distance
from irl.training.registry import read_config
from irl.vision.prepare import prepare
from irl.vision.task import VisionTask

CONF = Path(__file__).parents[2] / "egs" / "cifar" / "conf" / "special"


@pytest.fixture
def build(tmp_path):
    """build(name) -> (step module, batch, what a plain implementation needs of them)"""
    rng = np.random.default_rng(0)
    for part in ("train", "dev"):
        pixels, labels = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), np.arange(12) % 3
        write(tmp_path / f"{part}.npz", Images(pixels, labels, np.arange(12), ["a", "b", "c"]))

    def build(name, *overrides):
        own = [f"{part}_set={tmp_path}/{part}.npz" for part in ("train", "dev")]
        config = read_config(
            CONF / f"{name}.yaml", [*own, f"statistics={tmp_path}/s.json", "train.batch_size=6", *overrides]
        )
        prepare(config, [])
        task = VisionTask(config)
        task.module.train()
        for module in task.module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0  # so that one may look twice
        (batch,) = task.loader(0, [task.spec(0, "paired")], 0)
        return task.module, batch

    return build


def together(model, views):
    """Logits of views that went through batch norm together."""
    return model(torch.cat(views)).logits.chunk(len(views))


def gradient(value, model):
    """By every weight, as one vector."""
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(found, model.parameters())]
    )


def same(step, batch, plain):
    """The loss of a step, and its gradient, are the plain one's. (An attack puts back the buffers it changes, so
    the plain gradient is taken before.)"""
    b = gradient(plain, step.model)
    ours = step(batch, "paired", 0).total
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    a = gradient(ours, step.model)
    assert float((a - b).norm()) < 1e-3 * float(b.norm()), "and so are the gradients"


def kl(p_logits, q_logits):
    p = p_logits.softmax(1)
    return (p * (p.log() - q_logits.softmax(1).log())).sum(1).mean()


def test_data_augmentation(build):
    step, batch = build("data_aug")
    assert batch.clean is None
    same(step, batch, F.cross_entropy(step.model(batch.noisy[0]).logits, batch.y))


def fgsm(model, x, y, eps):
    """As its paper has it, batch norm looking at the batch."""
    with attacked(model, eval_mode=False):
        z = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(z).logits, y, reduction="sum"), z)
    return (x + eps * g.sign()).detach()


def test_adversarial_training(build):
    step, batch = build("adversarial")
    moved = fgsm(step.model, batch.clean, batch.y, 0.4)
    a, b = together(step.model, [batch.clean, moved])
    same(step, batch, 0.5 * F.cross_entropy(a, batch.y) + 0.5 * F.cross_entropy(b, batch.y))


def test_stability_training(build):
    step, batch = build("stability")
    assert 5 < float(((batch.noisy[0] - batch.clean) * step_std(step)).std()) < 15, "Gaussian noise of 10 pixel values"
    a, b = together(step.model, [batch.clean, batch.noisy[0]])
    stability = -(a.softmax(1) * b.log_softmax(1)).sum(1).mean()
    same(step, batch, F.cross_entropy(a, batch.y) + stability)


def step_std(step):
    # The pixels of these sets are uniform on 0-255.
    return 255 / 12**0.5


def test_adversarial_logit_pairing(build):
    step, batch = build("adversarial_logit_pairing")
    noisy = step.copies(batch, 0)
    assert float((noisy[0] - batch.clean).abs().max()) == pytest.approx(0.4, rel=1e-4)
    a, b = together(step.model, [batch.clean, *noisy])
    tasks = 0.5 * F.cross_entropy(a, batch.y) + 0.5 * F.cross_entropy(b, batch.y)
    same(step, batch, tasks + 0.5 * (a - b).square().sum(1).mean())


def test_clean_logit_pairing(build):
    step, batch = build("clean_logit_pairing")
    assert batch.clean is None
    logits = step.model(batch.noisy[0]).logits
    pairs = sum((logits[i] - logits[(i + 1) % 6]).square().sum() for i in range(6)) / 6
    same(step, batch, F.cross_entropy(logits, batch.y) + 0.1 * pairs)


def test_mean_teacher(build):
    step, batch = build("mean_teacher")
    with torch.no_grad():
        for weight in step.teacher.parameters():
            weight += 0.01 * torch.randn_like(weight)
        step.teacher.followed.fill_(0)
        teacher = step.teacher.model(batch.clean).logits.softmax(1)
    a = step.model(batch.noisy[0]).logits
    same(step, batch, F.cross_entropy(a, batch.y) + (a.softmax(1) - teacher).square().mean())


def test_trades(build):
    step, batch = build("trades")
    (moved,) = step.copies(batch, 0)
    model, x = step.model, batch.clean
    assert 0.19 < float((moved - x).abs().max()) <= 0.2001
    with torch.no_grad(), attacked(model, eval_mode=True):
        clean = model(x).logits
        found = kl(clean, model(moved).logits)
        sign = torch.randint(2, x.shape) * 2.0 - 1
        assert found > 2 * kl(clean, model(x + 0.2 * sign).logits), "it moves the prediction as no random step does"
    a, b = together(model, [x, moved])
    same(step, batch, F.cross_entropy(a, batch.y) + 6 * kl(a, b))


def test_the_attack_of_trades_ascends_the_divergence(build):
    """One step of it by hand, from the same start."""
    step, batch = build("trades", "attack.steps=1", "attack.step_size=0.05")
    (moved,) = step.copies(batch, 0)
    model, x = step.model, batch.clean
    model.eval()
    from irl.core.rng import Keys

    keys = Keys(batch.ids, step.seed, "attack", 0, 1).sub("restart0")
    start = LpBall(x, 0.2, "linf").random_point(keys)
    z = start.clone().requires_grad_()
    (g,) = torch.autograd.grad(kl(model(x).logits.detach(), model(z).logits), z)
    expected = x + (start + 0.05 * g.sign() - x).clamp(-0.2, 0.2)
    assert torch.allclose(moved, expected, atol=1e-5)


def test_vat(build):
    """The direction by one step of the power method, and the divergence from the clean prediction, held constant."""
    step, batch = build("vat")
    (moved,) = step.copies(batch, 0)
    model, x = step.model, batch.clean
    assert torch.allclose((moved - x).flatten(1).norm(dim=1), torch.tensor(5.0), rtol=1e-4)
    from irl.core.rng import Keys

    keys = Keys(batch.ids, step.seed, "attack", 0, 1).sub("restart0")
    d = LpBall(x, 1.0, "l2").surface_point(keys) - x
    with attacked(model, eval_mode=False):
        z = (x + 0.5 * d).requires_grad_()
        (g,) = torch.autograd.grad(kl(model(x).logits.detach(), model(z).logits), z)
    expected = x + 5 * g / g.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)
    a, b = together(model, [x, moved])
    same(step, batch, F.cross_entropy(a, batch.y) + kl(a.detach(), b))


def test_vat_needs_no_labels(build):
    step, batch = build("vat", "labels=6", "unlabelled=4", "train.batch_size=3", "train.clean_updates=0")
    (moved,) = step.copies(batch, 0)
    assert len(batch.y) == 3 and len(moved) == len(batch.clean) == 7
    a, b = together(step.model, [batch.clean, moved])
    same(step, batch, F.cross_entropy(a[:3], batch.y) + kl(a.detach(), b))


def test_augmix(build):
    """12 times the mean divergence of three predictions from their mean."""
    step, batch = build("augmix")
    assert len(batch.noisy) == 2 and not torch.equal(*batch.noisy)
    logits = together(step.model, [batch.clean, *batch.noisy])
    mean = torch.stack([x.softmax(1) for x in logits]).mean(0)
    js = sum(kl(x, mean.log()) for x in logits) / 3
    same(step, batch, F.cross_entropy(logits[0], batch.y) + 12 * js)


def test_attacks_on_the_model_itself_look_at_no_labels(build):
    """With several starts the worst is chosen: by the divergence, and by whether the prediction changes."""
    step, batch = build("trades", "attack.restarts=3", "attack.steps=2")
    (moved,) = step.copies(batch, 0)
    (again,) = step.copies(batch._replace(y=(batch.y + 1) % 3), 0)
    assert torch.equal(moved, again) and not torch.equal(moved, batch.clean)


def test_pi_model(build):
    step, batch = build("pi_model")
    assert batch.clean is None and len(batch.noisy) == 2
    a, b = together(step.model, batch.noisy)
    tasks = (F.cross_entropy(a, batch.y) + F.cross_entropy(b, batch.y)) / 2
    same(step, batch, tasks + F.mse_loss(a.softmax(1), b.softmax(1)))


def test_r_drop(build, monkeypatch):
    # One seed before each pass: the same masks in both.
    step, batch = build("r_drop")
    forward = step.model.forward
    monkeypatch.setattr(step.model, "forward", lambda x: (torch.manual_seed(5), forward(x))[1])
    a, b = together(step.model, batch.noisy)
    plain = F.cross_entropy(a, batch.y) + F.cross_entropy(b, batch.y) + (kl(a, b) + kl(b, a)) / 2
    same(step, batch, plain)


def penalty(model, x, function):
    """What a function of (logits, x with gradients) says of a model that treats each image alone."""
    with attacked(model, eval_mode=True):
        x = x.clone().requires_grad_()
        return function(model(x).logits, x)


def test_structured_gradient_regularisation(build):
    step, batch = build("gradient_regularisation", "smoothness.sigma=full")
    x, y = batch.clean, batch.y
    xi = (batch.noisy[0] - x).flatten(1)
    covariance = xi.T @ xi / len(xi)

    def roth(logits, x):
        (g,) = torch.autograd.grad(logits.log_softmax(1).gather(1, y[:, None]).sum(), x, create_graph=True)
        g = g.flatten(1)
        return 0.5 * (g @ covariance * g).sum(1).mean()

    expected = F.cross_entropy(step.model(x).logits, y) + penalty(step.model, x, roth)
    terms = step(batch, "paired", 0)
    same(step, batch, expected)
    assert terms.extra["omega_r"] > 0
    # The diagonal alone, as the file has it; and nothing of it in a clean phase.
    covariance = torch.diag(covariance.diagonal())
    step, batch = build("gradient_regularisation")
    same(step, batch, F.cross_entropy(step.model(x).logits, y) + penalty(step.model, x, roth))
    assert not step(batch, "clean", 0).extra


def test_jacobian_regularisation(build):
    # Its weight is raised, so that its gradient is seen beside that of the loss.
    step, batch = build("jacobian", "smoothness.method=exact", "smoothness.lambda_r=0.5")

    def hoffman(logits, x):
        rows = [torch.autograd.grad(logits[:, j].sum(), x, create_graph=True)[0] for j in range(3)]
        return sum(row.square().sum() for row in rows) / len(x)

    model, x = step.model, batch.clean
    expected = F.cross_entropy(model(x).logits, batch.y) + 1 / 2 * penalty(model, x, hoffman)
    same(step, batch, expected)
    # Its own one projection has that as its mean.
    projected, batch = build("jacobian")
    with torch.no_grad():
        draws = [float(projected(batch, "paired", 0).extra["lambda_r"]) for _ in range(200)]
    exact = float(step(batch, "paired", 0).extra["lambda_r"].detach())
    assert abs(np.mean(draws) - exact) < 4 * np.std(draws) / len(draws) ** 0.5


def test_lambda_r_in_place_of_the_distance(build):
    exact = ["smoothness.method=exact", "smoothness.lambda_r=0.5", "smoothness.from_layer=group3.block0"]
    step, batch = build("lambda_r", *exact, "smoothness.layers={logits: 2.0}", "smoothness.from_layer=null")
    a, b = together(step.model, [batch.clean, batch.noisy[0]])
    plain = 0.5 * F.cross_entropy(a, batch.y) + 0.5 * F.cross_entropy(b, batch.y)

    def norms(logits, x):
        rows = [torch.autograd.grad(logits[:, j].sum(), x, create_graph=True)[0] for j in range(3)]
        return 2 * 0.1**2 * sum(row.square().sum() for row in rows) / len(x)

    same(step, batch, plain + 0.5 * penalty(step.model, batch.clean, norms))
    # As the file has it, on the last group: the mean of its draws is the squared norm of its Jacobian.
    drawn, batch = build("lambda_r")
    drawn.model.eval()
    with torch.no_grad():
        draws = [float(drawn(batch, "paired", 0).extra["lambda_r"]) for _ in range(100)]
    x, total = batch.clean.clone().requires_grad_(), 0.0
    hidden = drawn.model(x).hidden
    for h in (value for name, value in hidden.items() if name.startswith("group3")):
        for unit in h.flatten(1).sum(0):
            total += float(torch.autograd.grad(unit, x, retain_graph=True)[0].square().sum())
    expected = 0.1**2 * total / len(x)
    assert abs(np.mean(draws) - expected) < 4 * np.std(draws) / len(draws) ** 0.5


def test_posterior_consistency_of_cr_ctc():
    """alpha/2 sum over both views of the mean over frames of KL(sg(other) || own), beside the mean of their losses."""
    lens = torch.tensor([5, 3])
    logits = torch.randn(4, 5, 7, dtype=torch.float64, requires_grad=True)
    stacked = Output(logits, {}, {"ctc": lens.repeat(2)}, {"ctc": logits})
    objective = IRLLoss(
        alpha=0,
        beta=1,
        gamma=0.2,
        pairs="noisy",
        layers=["ctc"],
        distance=Distance.from_dict({"kl_symmetric_detached": 1.0}),
    )
    loss = lambda view: view.extra["ctc"].square().mean()  # noqa: E731
    ours = objective.terms(stacked.views(2), loss).total
    a, b = logits.chunk(2)
    plain = (a.square().mean() + b.square().mean()) / 2
    for i, n in enumerate((5, 3)):
        for own, other in ((a[i, :n], b[i, :n]), (b[i, :n], a[i, :n])):
            target = other.softmax(-1).detach()
            plain = plain + 0.2 / 2 * (target * (target.log() - own.log_softmax(-1))).sum(-1).mean() / 2
    assert float(ours) == pytest.approx(float(plain))
    (x,), (z,) = torch.autograd.grad(ours, logits), torch.autograd.grad(plain, logits)
    assert torch.allclose(x, z)


def test_every_case_has_a_test_and_stands_on_the_page():
    names = {path.stem for path in CONF.glob("*.yaml")} - {"irl_batching", "evaluation"}
    page = (CONF.parent.parent / "SPECIAL_CASES.md").read_text()
    tests = Path(__file__).read_text()
    for name in names:
        assert f"`{name}`" in page and f'build("{name}"' in tests, name
