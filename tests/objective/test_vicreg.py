import pytest
import torch
from sequences import Sequence, batch, task
from torch import nn

from irl import IRLLoss, Output
from irl.objective.vicreg import variance_and_covariance, vectors_of


def plain(z):
    """The paper's formulas as loops over units, in float64."""
    p, d = z.shape
    means = [sum(z[i, j] for i in range(p)) / p for j in range(d)]
    cov = [
        [sum((z[i, j] - means[j]) * (z[i, k] - means[k]) for i in range(p)) / (p - 1) for k in range(d)]
        for j in range(d)
    ]
    variance = sum(torch.relu(1 - (cov[j][j] + 1e-4).sqrt()) for j in range(d)) / d
    covariance = sum(cov[j][k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    return variance, covariance


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_equals_plain_loops(scale):
    z = scale * torch.randn(9, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) + 5
    z.requires_grad_()
    for got, want in zip(variance_and_covariance(z), plain(z)):
        torch.testing.assert_close(got, want)
        got, want = (torch.autograd.grad(x, z, retain_graph=True)[0] for x in (got, want))
        torch.testing.assert_close(got, want)
    assert [float(x) for x in variance_and_covariance(z[:1])] == [0, 0]


def test_vectors_are_valid_frames_and_positions_of_images():
    x = torch.arange(24.0).view(2, 3, 4)
    hidden = {"frames": x, "all": x, "image": torch.arange(48.0).view(2, 3, 2, 4)}
    view = Output(x[:, 0], hidden, {"frames": torch.tensor([3, 1])})
    assert torch.equal(vectors_of(view, "frames"), torch.cat([x[0], x[1, :1]]))
    assert torch.equal(vectors_of(view, "all"), x.flatten(0, 1))
    assert torch.equal(vectors_of(view, "image")[1], view.hidden["image"][0, :, 0, 1])
    assert vectors_of(view, "logits").shape == (2, 4)


def test_terms_stand_beside_the_objective_in_parts_of_a_batch_too():
    model = Sequence().double()
    clean, noisy, y = batch()
    loss = IRLLoss(gamma=0.7, layers={"l.0": 1.0, "l.1": 0.5}, variance=2.0, covariance=3.0)
    terms = loss(model, clean, noisy, task(y))
    without = IRLLoss(gamma=0.7, layers={"l.0": 1.0, "l.1": 0.5})(model, clean, noisy, task(y))
    weights, expected = {"l.0": 1.0, "l.1": 0.5}, torch.zeros(2).double()
    for view in (clean, noisy[0]):
        out = model(*view)
        for layer, weight in weights.items():
            frames = torch.cat([x[:n] for x, n in zip(out.hidden[layer], out.lens[layer])])
            expected += weight * torch.stack(plain(frames))
    torch.testing.assert_close(torch.stack([terms.extra["variance"], terms.extra["covariance"]]), expected)
    torch.testing.assert_close(terms.total, without.total + 2 * expected[0] + 3 * expected[1])
    # A process that has all of the samples there are, but of a batch twice as large.
    half = loss(model, clean, noisy, task(y), global_batch_size=6)
    torch.testing.assert_close(half.extra["variance"], expected[0] / 2)
    assert loss.clean_only()(model, clean, [], task(y)).extra == {}


def test_they_undo_a_collapse():
    """Two units begin alike and nearly constant; both terms make them vary, and differ from each other."""
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.fill_(0.01)
    x = torch.randn(200, 2)
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    net.weight.data += 1e-3 * torch.randn(2, 2)
    for _ in range(400):
        optimizer.zero_grad()
        variance, covariance = variance_and_covariance(net(x))
        (variance + covariance).backward()
        optimizer.step()
    found = torch.cov(net(x).T)
    assert found.diagonal().min() > 0.8 and abs(found[0, 1]) < 0.05


def test_refusals():
    view = Output(torch.zeros(2, 3), {"words": ["a", "b"]})
    with pytest.raises(ValueError, match="layer 'words': variance and covariance need a tensor .*, found list"):
        vectors_of(view, "words")
    with pytest.raises(ValueError, match="variance must be finite and not negative, got -1"):
        IRLLoss(variance=-1)
