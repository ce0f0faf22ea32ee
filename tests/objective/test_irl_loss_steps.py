"""Steps as trainings take them: half precision, accumulated gradients, compiled, in several processes."""

import pytest
import torch
from sequences import task
from torch import nn

from irl import IRLLoss, Output, tap


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_distances_are_float32(dtype):
    model = tap(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), ["0", "1"])
    x = torch.randn(6, 16)
    y = torch.randint(0, 4, (6,))
    with torch.autocast("cpu", dtype=dtype):
        terms = IRLLoss()(model, x, [x + 0.01 * torch.randn_like(x)], task(y))
        assert model(x).hidden["0"].dtype == dtype
    assert terms.dist.dtype == torch.float32
    terms.total.backward()
    wide = IRLLoss()(model, x, [x + 0.01 * torch.randn_like(x)], task(y))
    assert terms.dist > 0 and abs(terms.dist / wide.dist - 1) < 0.5
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_gradient_accumulation_equals_one_batch():
    """Means over the batch: two halves, each weighted by 1/2, give the gradient of the whole."""
    model = tap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double(), ["0"])
    x, noise, y = torch.randn(6, 4).double(), torch.randn(6, 4).double(), torch.randint(0, 3, (6,))
    loss = IRLLoss()
    loss(model, x, [x + noise], task(y)).total.backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for rows in (slice(0, 3), slice(3, 6)):
        (loss(model, x[rows], [(x + noise)[rows]], task(y[rows])).total / 2).backward()
    for p, g in zip(model.parameters(), whole):
        torch.testing.assert_close(p.grad, g)


def test_compiled_step():
    model = tap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), ["0", "2"])
    x, x2, y = torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 3, (6,))

    loss = IRLLoss(layers={"0": 0.5, "2": 1.0}, warmup=10)

    def step(a, b):
        return loss(model, a, [b], task(y), step=5).total

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, x2), step(x, x2))
    compiled(x, x2).backward()
    got = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    step(x, x2).backward()
    for p, g in zip(model.parameters(), got):
        torch.testing.assert_close(p.grad, g)


def _rank(rank, path):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{path.with_name('store')}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = tap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), ["0"])
    x, x2, y = torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 3, (6,))
    rows = slice(3 * rank, 3 * rank + 3)
    parallel = nn.parallel.DistributedDataParallel(model)
    IRLLoss()(parallel, x[rows], [x2[rows]], task(y[rows])).total.backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], path)
    # Samples without labels: the weights above the layers join too, or the second step would find them missing.
    for _ in range(2):
        terms = IRLLoss()(parallel, x[rows], [x2[rows]], None)
        parallel.zero_grad()
        terms.total.backward()
    assert not model.model[2].weight.grad.any() and model.model[0].weight.grad.any()
    # One pass a view before one backward.
    IRLLoss(passes="separate")(parallel, x[rows], [x2[rows]], task(y[rows])).total.backward()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.start_processes(_rank, args=(tmp_path / "grads.pt",), nprocs=2, start_method="fork")
    torch.manual_seed(0)
    model = tap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), ["0"])
    x, x2, y = torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 3, (6,))
    IRLLoss()(model, x, [x2], task(y)).total.backward()
    for p, g in zip(model.parameters(), torch.load(tmp_path / "grads.pt", weights_only=True)):
        torch.testing.assert_close(p.grad, g)


def test_parts_of_a_batch_sum_to_it_and_weight_zero_adds_nothing():
    """Uneven parts, with lengths and without, and one that is run only to join the others."""
    torch.manual_seed(0)
    x, noisy, lens = torch.randn(5, 4, 3), torch.randn(5, 4, 3), torch.tensor([4, 2, 3, 1, 4])
    layer = torch.nn.Linear(3, 3)

    def model(x, lens):
        h = layer(x)
        return Output(h.sum((1, 2)), {"frames": h, "sample": h.mean(1)}, {"frames": lens})

    loss = IRLLoss(alpha=0.5, beta=0.5, gamma=2.0)

    def terms(rows, weight=1.0):
        views = [(x[rows], lens[rows]), (noisy[rows], lens[rows])]
        return loss(model, views[0], [views[1]], lambda view: view.logits.sum() / 5, None, 5, weight)

    whole = terms([0, 1, 2, 3, 4])
    parts = [terms([0, 3]), terms([1, 2, 4]), terms([0], weight=0.0)]
    for name in ("total", "clean", "noisy", "dist"):
        torch.testing.assert_close(sum(getattr(part, name) for part in parts), getattr(whole, name))
    assert parts[2].total == 0 and not any(parts[2].per_layer.values())
    gradients = torch.autograd.grad(parts[2].total, list(layer.parameters()))
    assert not any(g.any() for g in gradients), "zero, but there"
