"""Lightning's Trainer with IRLCallback; a complete example with pairs from a data set, and two hand-written passes."""

import multiprocessing
import os
import warnings

import pytest
import torch
from ranks import PORTS
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from irl import IRLLoss
from irl.core.rng import Keys
from irl.integrations.lightning import Callback, IRLCallback, LightningModule, Trainer
from irl.noise import image_noise, paired

warnings.filterwarnings("ignore", module="lightning")
NOISE = image_noise(brightness=0.5, contrast=0.5, scale=1.0)


class Classifier(LightningModule):
    """Anyone's module: its own forward, its own loss, which it logs."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Dropout(0.2))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def images():
    keys = Keys(torch.arange(8), 0, "images")
    return TensorDataset(keys.uniform(48).float().reshape(8, 3, 4, 4), torch.arange(8) % 3)


class Record(Callback):
    """Gradients and logs of every step."""

    def __init__(self):
        self.grads, self.logs, self.epochs = [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.grads.append([p.grad.clone() for p in module.parameters()])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.logs.append({name: float(x) for name, x in trainer.callback_metrics.items()})


def fit(*callbacks, dataset=None, seed=1, collate=None, **settings):
    torch.manual_seed(seed)
    module, record = Classifier(), Record()
    if dataset is None:
        dataset = paired(images(), NOISE)
        collate = dataset.collate
    loader = DataLoader(dataset, batch_size=4, collate_fn=collate)
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, record], **{"devices": 1, **settings},
    )  # fmt: skip
    trainer.fit(module, loader)
    return module, record


def two_passes(module, clean, noisy, gamma):
    """Losses and gradients of an IRL step, by hand: each view alone, with one dropout mask."""
    state, losses, hidden = torch.get_rng_state(), [], []
    for x, y in (clean, noisy):
        torch.set_rng_state(state)
        h = module.encoder(x)
        losses.append(F.cross_entropy(module.head(h), y))
        hidden.append(h)
    a, b = hidden
    dist = (0.1 * (a - b).norm(dim=1) + 1 - F.cosine_similarity(a, b)).mean()
    total = 0.5 * losses[0] + 0.5 * losses[1] + gamma * dist
    return (*losses, dist), torch.autograd.grad(total, list(module.parameters()))


def test_every_step_equals_two_passes_by_hand():
    module, record = fit(IRLCallback(["encoder"], IRLLoss(gamma=0.7)))
    torch.manual_seed(1)
    own, step = Classifier(), 0
    loader = DataLoader(
        paired(images(), NOISE),
        batch_size=4,
        collate_fn=paired(images(), NOISE).collate,
    )
    for epoch in range(2):
        loader.dataset.set_epoch(epoch)
        for clean, [noisy] in loader:
            values, grads = two_passes(own, clean, noisy, 0.7)
            for found, expected in zip(record.grads[step], grads):
                torch.testing.assert_close(found, expected)
            names = (
                "train_loss",
                "noisy/train_loss",
                "irl/dist",
                "irl/dist/encoder",
                "irl/clean",
                "irl/noisy",
            )
            logged = [record.logs[step][name] for name in names]
            assert logged == pytest.approx([float(values[i].detach()) for i in (0, 1, 2, 2, 0, 1)], rel=1e-5)
            with torch.no_grad():
                for p, grad in zip(own.parameters(), grads):
                    p -= 0.1 * grad
            step += 1
    assert step == len(record.grads) == 4
    assert not module.encoder._forward_hooks and "training_step" not in vars(module) and "log" not in vars(module)


@pytest.mark.parametrize(
    "irl_loss, unlogged",
    [
        (IRLLoss(gamma=0), {"irl/dist", "irl/dist/encoder"}),
        (IRLLoss(beta=0), {"irl/noisy"}),
        (IRLLoss(alpha=0), {"irl/clean"}),
        (IRLLoss(warmup=2), set()),
    ],
)
def test_a_term_that_is_not_computed_is_not_logged_as_0(irl_loss, unlogged):
    _, record = fit(IRLCallback(["encoder"], irl_loss))
    names = {"total", "gamma", "clean", "noisy", "dist", "dist/encoder"}
    assert {n for n in record.logs[-1] if n.startswith("irl/")} == {f"irl/{n}" for n in names} - unlogged
    first = record.logs[0]
    assert ("irl/dist" in first) == (irl_loss.warmup == 0 and irl_loss.gamma > 0)
    assert first["irl/gamma"] == (0 if irl_loss.warmup else irl_loss.gamma)


def test_the_loss_of_a_step_is_no_layer():
    with pytest.raises(ValueError, match="layer 'logits' of a step is the loss that it returns: name the module"):
        IRLCallback(["encoder"], IRLLoss(layers={"encoder": 1.0, "logits": 1.0}))


def test_noise_without_pairs_and_bf16():
    module, record = fit(IRLCallback(["encoder"], noise=NOISE), dataset=images(), precision="bf16-mixed")
    plain, _ = fit(dataset=images(), precision="bf16-mixed")
    assert record.logs[-1]["irl/dist"] > 0 and module.head.weight.dtype == torch.float32
    assert not torch.equal(module.head.weight, plain.head.weight)


def test_checkpoints_are_the_modules_own(tmp_path):
    module, _ = fit(IRLCallback(["encoder"]))
    module.trainer.save_checkpoint(tmp_path / "here.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "here.ckpt")
    torch.testing.assert_close(dict(again.state_dict()), dict(module.state_dict()), rtol=0, atol=0)


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"expected a batch \(clean, \[noisy, ...\]\)"):
        fit(IRLCallback(["encoder"]), dataset=images())
    with pytest.raises(ValueError, match="unknown layer 'encodr'"):
        fit(IRLCallback(["encodr"]))


def rank(number, queue, port):
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        LOCAL_RANK=str(number),
        NODE_RANK="0",
    )
    os.environ.update(WORLD_SIZE="2", RANK=str(number), LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    torch.set_num_threads(1)
    module, record = fit(IRLCallback(["head"]), devices=2, strategy="ddp")
    queue.put((number, [p.tolist() for p in module.parameters()]))


def test_ddp_on_two_processes_trains_one_model():
    context = multiprocessing.get_context("fork")
    queue, port = context.SimpleQueue(), next(PORTS)
    processes = [context.Process(target=rank, args=(i, queue, port)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    found = dict(queue.get() for _ in processes)
    torch.manual_seed(1)
    assert found[0] == found[1] != [p.tolist() for p in Classifier().parameters()]
