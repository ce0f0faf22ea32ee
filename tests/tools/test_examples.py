"""The complete programs of tools/docs/examples run on small data, and train."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from irl import IRLLoss, tap
from irl.noise import image_noise

FOLDER = Path(__file__).parents[2] / "tools" / "docs" / "examples"


@pytest.fixture(autouse=True)
def example(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for path in FOLDER.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def waves(folder, names, seconds, rate=8000):
    """Recordings of which the pitch tells the name."""
    soundfile, rng = pytest.importorskip("soundfile"), np.random.default_rng(0)
    folder.mkdir()
    for i, name in enumerate(names):
        t = np.arange(int(seconds * rate)) / rate
        wave = 0.1 * np.sin(2 * np.pi * (200 + 150 * (i % 10)) * t) + 0.01 * rng.normal(size=len(t))
        soundfile.write(folder / f"{name}.wav", wave, rate)


def moved(net, other):
    return any(not torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


def test_timm_images():
    pytest.importorskip("timm")
    import timm_images

    # The colour tells the class.
    labels = torch.arange(128) % 3
    images = torch.eye(3)[labels][:, :, None, None].expand(-1, -1, 32, 32) * 0.5 + 0.2 * torch.rand(128, 3, 32, 32)
    nets = [timm_images.train(images, labels, m, 1, epochs=2, batch_size=32) for m in timm_images.METHODS]
    assert all(not module._forward_hooks for module in nets[2].modules())
    assert moved(nets[0], nets[1]) and moved(nets[1], nets[2])
    for condition in timm_images.TEST_NOISES:
        wrong = timm_images.errors(nets[1], images, labels, condition)
        assert wrong.shape == (128,) and set(wrong) <= {0, 1}
        if condition == "none":
            assert wrong.mean() < 0.5


def by_hand(net, layer, views, loss_of, lens=None):
    """Half of each view's loss and the distance of its layer, each view in a pass of its own; and the gradients."""
    losses, kept = [], []
    hook = net.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    for view in views:
        losses.append(loss_of(net(*view)))
    hook.remove()
    a, b = (x if lens is not None else x.flatten(1)[:, None] for x in kept)
    lens = torch.ones(len(a), dtype=torch.int64) if lens is None else lens
    frames = 0.1 * (a - b).norm(dim=2) + 1 - F.cosine_similarity(a, b, dim=2)
    dist = torch.stack([f[:n].mean() for f, n in zip(frames, lens)]).mean()
    total = 0.5 * losses[0] + 0.5 * losses[1] + dist
    return total, torch.autograd.grad(total, list(net.parameters()))


def same(terms, expected, net):
    total, grads = expected
    torch.testing.assert_close(terms.total, total)
    found = torch.autograd.grad(terms.total, list(net.parameters()))
    torch.testing.assert_close(found, grads, rtol=1e-3, atol=1e-5)


def test_a_step_of_timm_equals_two_passes_by_hand():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model("resnet10t", num_classes=3, channels=(8, 8, 16, 16), stem_width=8)
    x, y = torch.rand(6, 3, 64, 64), torch.arange(6) % 3
    noisy = image_noise(brightness=0.5, contrast=0.5, scale=1)(x, epoch=0)
    task_loss = torch.nn.CrossEntropyLoss()
    expected = by_hand(net, "layer4", [(x,), (noisy,)], lambda scores: task_loss(scores, y))
    loss = IRLLoss(batch_norm="split")  # two passes have statistics of their own
    same(loss(tap(net, ["layer4"]), x, [noisy], lambda view: task_loss(view.logits, y)), expected, net)


@pytest.fixture
def accelerate():
    """Without the state, its precision among it, that Accelerate keeps for a process."""
    module = pytest.importorskip("accelerate")
    reset = module.state.AcceleratorState._reset_state
    reset(reset_partial_state=True)
    yield module
    reset(reset_partial_state=True)


def test_a_step_of_accelerate_equals_two_passes_by_hand(accelerate):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    x, y = torch.randn(6, 20), torch.arange(6) % 2
    expected = by_hand(net, "1", [(x,), (x + 0.3,)], lambda scores: F.cross_entropy(scores, y))
    model = accelerate.Accelerator(cpu=True).prepare(tap(net, ["1"]))
    same(IRLLoss()(model, x, [x + 0.3], lambda view: F.cross_entropy(view.logits, y)), expected, net)


def test_espnet_digits(tmp_path):
    pytest.importorskip("espnet2")
    import espnet_digits

    names = [f"{d}_{s}_{i}" for s in ("ann", "bob", "cyd") for d in range(10) for i in (0, 20)]
    waves(tmp_path / "fsdd", names, 0.5)
    espnet_digits.prepare(tmp_path / "fsdd", tmp_path / "work", strings=12)
    texts = (tmp_path / "work/test/text").read_text().splitlines()
    digits = sum(len(text.split()) - 1 for text in texts)
    assert 24 <= digits <= 30  # no test recording twice, and at most two of a speaker left over
    small = {"max_epoch": 1, "num_iters_per_epoch": 2}
    model = espnet_digits.train(tmp_path / "work", "irl_loss", 1, **small)
    found = espnet_digits.test(tmp_path / "work", model, **small)
    assert list(found) == ["none", "babble", "telephone"]
    assert all(len(errors) == len(texts) and reference.sum() == digits for errors, reference in found.values())


@pytest.mark.parametrize("method", ["irl_batching", "irl_loss", "cr_ctc"])
def test_icefall_loop(tmp_path, method):
    lhotse = pytest.importorskip("lhotse")
    import icefall_loop

    waves(tmp_path / "speech", "abcdefgh", 0.6)
    waves(tmp_path / "noises", ["x", "y"], 1.0)
    cuts = []
    for path in sorted((tmp_path / "speech").glob("*.wav")):
        recording = lhotse.Recording.from_file(path)
        speech = lhotse.SupervisionSegment(path.stem, path.stem, 0, recording.duration, text=path.stem)
        cuts.append(lhotse.MonoCut(path.stem, 0, recording.duration, 0, recording=recording, supervisions=[speech]))
    # Without its ramp the distance counts from the first step.
    icefall_loop.METHODS = {
        name: loss.__class__(**{**vars(loss), "warmup": 0}) for name, loss in icefall_loop.METHODS.items()
    }
    cuts = lhotse.CutSet.from_cuts(cuts)
    net = icefall_loop.train(cuts, str(tmp_path / "noises"), method, epochs=2, max_duration=2.4)
    assert net.tokens == "abcdefgh" and not net.encoder._forward_hooks
    fresh = icefall_loop.Recogniser(9)
    fresh.load_state_dict(net.state_dict())
    assert torch.isfinite(fresh.eval()(torch.randn(2, 30, 40), torch.tensor([30, 20]))).all()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_loop(precision, monkeypatch, accelerate):
    import accelerate_loop

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)  # as accelerate launch does
    net = accelerate_loop.train(100, IRLLoss(warmup=50))
    assert accelerate.Accelerator(cpu=True).mixed_precision == precision
    x, y = accelerate_loop.points().tensors
    assert (net(accelerate_loop.noise(x)).argmax(1) == y).float().mean() > 0.8
    assert torch.load("accelerate_loop.pt", weights_only=True).keys() == net.state_dict().keys()


def test_a_step_of_the_icefall_loop_equals_two_passes_by_hand():
    pytest.importorskip("lhotse")
    import icefall_loop

    torch.manual_seed(0)
    net = icefall_loop.Recogniser(9).eval()  # without dropout
    x, lens = torch.randn(2, 30, 40), torch.tensor([30, 20])
    supervisions = {"text": ["ab", "cc"], "sequence_idx": torch.tensor([1, 0], dtype=torch.int32)}
    supervisions["num_frames"] = lens.flip(0).int()
    batch = ({"inputs": x, "supervisions": supervisions}, [{"inputs": x + 0.3, "supervisions": supervisions}])
    targets = torch.tensor([[3, 3], [1, 2]])  # of the rows

    def ctc(scores):
        scores = scores.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(scores, targets, icefall_loop.frames(lens), torch.tensor([2, 2]), reduction="sum") / 2

    halves = icefall_loop.frames(lens)
    expected = by_hand(net, "encoder", [(x, lens), (x + 0.3, lens)], ctc, halves)
    model = tap(net, ["encoder"], lens=lambda inputs, output: icefall_loop.frames(inputs["lens"]))
    icefall_loop.METHODS = {"irl_loss": IRLLoss()}
    total, info = icefall_loop.compute_loss("irl_loss", model, batch, {"a": 1, "b": 2, "c": 3}, None, 0)
    assert info["loss"] == pytest.approx(2 * total.item())
    same(SimpleNamespace(total=total), expected, net)
