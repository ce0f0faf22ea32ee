"""Checks of `gpu.py`: what the package computes on a device, beside the same on a CPU or in float64.

An error is the largest difference as a share of the largest value expected. Convolutions and products are in full
float32 here (no TF32), so that what is left is the order of summation.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from typing import Any, Callable

import torch
from gpu_part import Part, Row, error, worst
from torch import Tensor, nn
from torch.nn import functional as F

from irl import noise as noises_of
from irl.core.gpu import kernels_for
from irl.core.output import Output, tree_map
from irl.core.rng import Keys
from irl.data.augment import Crops
from irl.data.features import FeatureConfig, LogMel
from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from irl.models.lstm_lm import LSTMLM, FromEmbeddings, LSTMLMConfig
from irl.models.wide_resnet import WideResNet, WideResNetConfig
from irl.noise.adversarial import Attack, AttackConfig
from irl.noise.audio import add_at_snr, per_row
from irl.noise.channel import Volume
from irl.noise.image import ImageNoise, ImageNoiseConfig
from irl.noise.spec_augment import SpecAugment
from irl.noise.text import WordNoise, WordNoiseConfig
from irl.objective import L2, Cosine, IRLLoss
from irl.objective.distances import BY_NAME
from irl.objective.smoothness import Sigma, half_curvature, lambda_r, push_forward
from irl.speech.beam_search import beam_search
from irl.speech.search_options import SearchOptions
from irl.speech.task import SpeechStep, task_loss

TYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def full_precision() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def on(tree: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """Tensors of a tree of tuples and dicts on a device, those of real numbers in a type."""
    return tree_map(lambda x: x.to(device, dtype if dtype and x.is_floating_point() else x.dtype), tree)


# Draws and noise


def draws_and_noise(part: Part) -> None:
    part.measure("draws", lambda: check_draws(part.device))
    for layout in (torch.contiguous_format, torch.channels_last):
        what = "noise on images" + (", channels last" if layout == torch.channels_last else "")
        part.measure(what, lambda layout=layout: check_image_noise(part.device, layout))
    part.measure("crops and flips", lambda: check_crops(part.device))
    for kind in ("blank", "unigram", "drop"):
        part.measure(f"noise on words, {kind}", lambda kind=kind: check_word_noise(part.device, kind))
    part.measure("noises of one call", lambda: check_functions(part.device))
    part.measure("noise on waveforms, volume", lambda: check_waves(part.device, volume))
    part.measure("noise on waveforms, added", lambda: check_waves(part.device, added))
    part.measure("log-mel features", lambda: check_features(part.device, "global"))
    part.measure("log-mel features, normalised", lambda: check_features(part.device, "utterance"))
    part.measure("SpecAugment", lambda: check_masks(part.device))


def check_draws(device: str) -> Row:
    ids = torch.arange(2**40, 2**40 + 500)
    here, there = (Keys(ids.to(d), 7, "a/b", 3, 2) for d in ("cpu", device))
    high = torch.arange(1, 501)[:, None]
    same = {
        "bits": torch.equal(here.bits(11), there.bits(11).cpu()),
        "bits_of": torch.equal(here.bits_of(["x", "y"], 5), there.bits_of(["x", "y"], 5).cpu()),
        "uniform": torch.equal(here.uniform(11, -1, 3), there.uniform(11, -1, 3).cpu()),
        "integers": torch.equal(here.integers(4, high), there.integers(4, high.to(device)).cpu()),
    }
    away = float((here.normal(100) - there.normal(100).cpu()).abs().max())
    found: Row = {"equal to the bit": str(same), "normals differ by": away}
    found["kernels in Triton"] = kernels_for(there.ids) is not None
    return {"ok": all(same.values()) and away < 1e-6, **found}


def check_image_noise(device: str, layout: torch.memory_format) -> Row:
    torch.manual_seed(0)
    x = (255 * torch.rand(64, 3, 32, 32)).contiguous(memory_format=layout)
    noise = ImageNoise(ImageNoiseConfig(0.5, 0.5, 0.5, 0.5, 0.1, gaussian=4.0), 20 * torch.randn(3, 3))

    def make(where: str) -> Tensor:
        own = replace(noise, directions=noise.directions.to(where))
        made = own.apply(x.to(where), own.draw(Keys(torch.arange(64, device=where), 1, "noise"), (32, 32)))
        return made

    found, expected = make(device), make("cpu")
    away = error(found, expected)
    kept = found.is_contiguous(memory_format=layout)
    return {"ok": away < 1e-5 and kept, "error": away, "memory layout kept": kept}


def check_crops(device: str) -> Row:
    images = torch.randint(256, (50, 32, 32, 3), dtype=torch.uint8)
    rows = torch.arange(49, -1, -1)
    found, expected = (Crops().apply(images.to(d), rows.to(d), Keys(rows.to(d), 1, "crops")) for d in (device, "cpu"))
    return {"ok": torch.equal(found.cpu(), expected)}


def check_word_noise(device: str, kind: str) -> Row:
    words, counts = torch.randint(50, (20, 35)), torch.randint(1, 100, (50,))

    def make(where: str) -> Tensor:
        noise = WordNoise(WordNoiseConfig(kind, 0.3), counts)
        return noise.apply(words.to(where), noise.draw(Keys(torch.arange(700, device=where), 1, "noise")))

    return {"ok": torch.equal(make(device).cpu(), make("cpu"))}


def check_functions(device: str) -> Row:
    """The noises that are one call each, on tensors of the device: they stay there, and equal those on the CPU."""
    torch.manual_seed(0)
    waves, images, tokens = 0.1 * torch.randn(8, 4000), torch.rand(8, 3, 16, 16), torch.randint(50, (8, 30))
    noises = {
        "waves": (noises_of.one_of(noises_of.volume(), noises_of.telephone(8000)) | noises_of.volume(0.5, 2.0), waves),
        "images": (noises_of.image_noise(0.5, 0.4, 0.3, 0.2, gaussian=0.02, scale=1), images),
        "mask": (noises_of.word_noise(0.3, mask_id=50, protect=[0]), tokens),
        "counts": (noises_of.word_noise(0.3, counts=torch.ones(50)), tokens),
    }
    errors = {}
    for name, (noise, x) in noises.items():
        found, expected = noise(x.to(device), ids=range(8), epoch=0), noise(x, ids=range(8), epoch=0)
        away = float((found.cpu().double() - expected.double()).abs().max())
        errors[name] = away if found.device.type == torch.device(device).type else float("inf")
    return {"ok": max(errors.values()) < 1e-4, **errors}


def volume(waves: Tensor, lens: Tensor) -> Tensor:
    noise = Volume(0.125, 2.0)
    return noise.apply(waves, lens, noise.draw(Keys(torch.arange(len(waves), device=waves.device), 1), lens))


def added(waves: Tensor, lens: Tensor) -> Tensor:
    clips = torch.sin(torch.arange(waves.shape[1])).numpy()
    return per_row(waves, lens, lambda i, x, out: add_at_snr(x, clips[: len(x)], 5.0, out))


def check_waves(device: str, noise: Callable[[Tensor, Tensor], Tensor]) -> Row:
    torch.manual_seed(0)
    waves, lens = 0.1 * torch.randn(8, 16000), torch.randint(8000, 16001, (8,))
    expected = noise(waves, lens)
    try:
        found = noise(waves.to(device), lens.to(device))
    except TypeError as refused:
        return {"skipped": f"is made on the CPU alone: {refused}"[:120]}
    away = float((found.cpu() - expected).abs().max())
    # Rounding to 16 bits may fall on the other side.
    return {"ok": away < 1e-4, "differs by": away, "on": str(found.device)}


def check_features(device: str, normalise: str) -> Row:
    torch.manual_seed(0)
    waves, lens = 0.1 * torch.randn(8, 16000), torch.randint(8000, 16001, (8,))
    features = LogMel(FeatureConfig(mels=40, stack=2, normalise=normalise))
    expected, x_lens = features.batch(waves, lens)
    found, found_lens = features.batch(waves.to(device), lens.to(device))
    away = error(found, expected)
    return {"ok": away < 1e-4 and torch.equal(found_lens.cpu(), x_lens), "error": away, "on": str(found.device)}


def check_masks(device: str) -> Row:
    torch.manual_seed(0)
    x, lens = torch.randn(8, 100, 40), torch.randint(50, 101, (8,))

    def make(where: str) -> Tensor:
        masks, own = SpecAugment(40), lens.to(where)
        return masks.apply(x.to(where), own, masks.draw(Keys(torch.arange(8, device=where), 1), own))

    away = error(make(device), make("cpu"))
    return {"ok": away < 1e-5, "error": away}


# Distances and the objective


def objective(part: Part) -> None:
    full_precision()
    for name in BY_NAME:
        part.measure(f"distance {name}", lambda name=name: check_distance(part.device, name))
    for method in ("irl_loss", "irl_batching"):
        part.measure(f"objective {method}", lambda method=method: check_objective(part.device, method))
    part.measure("ctc and cross-entropy", lambda: check_task_loss(part.device))


def check_distance(device: str, name: str) -> Row:
    """Values and gradients, beside float64 of the same inputs, rounded as they are."""
    torch.manual_seed(0)
    a = torch.randn(8, 20, 256)
    b = a + 0.1 * torch.randn(8, 20, 256)
    found: Row = {}
    for label, dtype in TYPES.items():
        pair = [x.to(dtype) for x in (a, b)]

        def run(where: str, dtype: torch.dtype, half: torch.dtype | None) -> list[Tensor]:
            x, y = (p.to(where, dtype).requires_grad_() for p in pair)
            with torch.autocast(where, half or torch.bfloat16, enabled=half is not None):
                d = BY_NAME[name](x, y)
            # Scaled as float16 needs it.
            return [d, *torch.autograd.grad(1024 * d.double().sum(), (x, y))]

        half = None if dtype == torch.float32 else dtype
        names = ("value", "gradient a", "gradient b")
        value, *slopes = (
            error(x, y) for _, x, y in zip(names, run(device, dtype, half), run("cpu", torch.float64, None))
        )
        found[label] = {"value": value, "gradient": max(slopes)}
    # Gradients in half precision are rounded once, at the end.
    rounding = {"float32": 1e-4, "bf16": 2**-8, "fp16": 2**-10}
    ok = all(e["value"] < 1e-4 and e["gradient"] < rounding[label] for label, e in found.items())
    return {"ok": ok, **found}


def views(seed: int = 0) -> tuple[list[Output], Tensor]:
    """Two views with layers with and without lengths, and labels."""
    torch.manual_seed(seed)
    lens = torch.tensor([12, 7, 1, 9])
    clean = {"a": torch.randn(4, 12, 32), "b": torch.randn(4, 8, 6, 6), "logits": torch.randn(4, 10)}
    made = []
    for i in range(2):
        moved = {name: x + 0.1 * i * torch.randn_like(x) for name, x in clean.items()}
        logits = moved.pop("logits")
        made.append(Output(logits, moved, {"a": lens}))
    return made, torch.tensor([1, 2, 3, 4])


def check_objective(device: str, method: str) -> Row:
    loss = IRLLoss.preset(method, distance=0.1 * L2() + Cosine())
    found: Row = {}
    for label, dtype in TYPES.items():

        def run(where: str, dtype: torch.dtype, first: torch.dtype) -> list[Tensor]:
            pair, y = views()
            pair = [on(on(view, where, first), where, dtype) for view in pair]
            leaves = [x.requires_grad_() for view in pair for x in view.named().values()]
            with torch.autocast(where, first, enabled=first in (torch.bfloat16, torch.float16) and dtype == first):
                terms = loss.terms(pair, lambda view: F.cross_entropy(view.logits, y.to(where)))
            slopes = torch.autograd.grad(terms.total, leaves, allow_unused=True)
            return [terms.total, *(s for s in slopes if s is not None)]

        value, *slopes = (
            error(x, y) for x, y in zip(run(device, dtype, dtype), run("cpu", torch.float64, dtype), strict=True)
        )
        found[label] = {"total": value, "gradient": max(slopes)}
    rounding = {"float32": 1e-4, "bf16": 2**-7, "fp16": 2**-9}
    ok = all(e["total"] < 1e-3 and e["gradient"] < rounding[label] for label, e in found.items())
    return {"ok": ok, **found}


def check_task_loss(device: str) -> Row:
    """Cross-entropy and CTC; one utterance is too short for its targets and counts nothing."""
    torch.manual_seed(0)
    logits, ctc = torch.randn(4, 9, 12), torch.randn(4, 30, 12)
    y = torch.randint(1, 11, (4, 9))
    y_lens, ctc_lens = torch.tensor([9, 5, 9, 7]), torch.tensor([30, 25, 4, 30])
    for row, n in zip(y, y_lens.tolist()):
        row[n - 1], row[n:] = 11, -1

    def run(where: str) -> list[Tensor]:
        a, b = (x.to(where).requires_grad_() for x in (logits, ctc))
        view = Output(a, {}, {"ctc": ctc_lens.to(where)}, {"ctc": b})
        loss = task_loss(view, y.to(where), y_lens.to(where), 0.5, 0.1)
        return [loss, *torch.autograd.grad(loss, (a, b))]

    errors = [error(x, y) for x, y in zip(run(device), run("cpu"))]
    again = all(torch.equal(x, y) for x, y in zip(run(device), run(device)))
    return {
        "ok": max(errors) < 1e-4,
        "loss": errors[0],
        "gradients": max(errors[1:]),
        "the same to the bit twice": again,
    }


# Models


def models(part: Part) -> None:
    full_precision()
    for width in (1,) if part.tiny else (1, 4):
        part.measure(f"WRN-16-{width}", lambda width=width: check_model(part.device, *wide_resnet(width)))
    part.measure("2x200 LSTM", lambda: check_model(part.device, *language(16 if part.tiny else 200)))
    part.measure("4-4 encoder-decoder", lambda: check_model(part.device, *speech(8 if part.tiny else 64)))


Run = Callable[[nn.Module, Any], Tensor]


def wide_resnet(width: int) -> tuple[nn.Module, Any, Run]:
    torch.manual_seed(0)
    model = WideResNet(10, WideResNetConfig(16, width)).to(memory_format=torch.channels_last)
    loss = IRLLoss.preset("irl_loss")

    def run(module: nn.Module, inputs: Any) -> Tensor:
        return loss(module, inputs[0], [inputs[1]], lambda view: F.cross_entropy(view.logits, inputs[2])).total

    x = torch.randn(16, 3, 32, 32)
    return model, (x, x + 0.2 * torch.randn_like(x), torch.arange(16) % 10), run


def language(units: int) -> tuple[nn.Module, Any, Run]:
    torch.manual_seed(0)
    model = LSTMLM(100, LSTMLMConfig(2, units, units), extra=2)
    loss = IRLLoss.preset("irl_loss")
    x = torch.randint(100, (6, 20))

    def run(module: nn.Module, inputs: Any) -> Tensor:
        task = lambda view: F.cross_entropy(view.logits.flatten(0, 1), inputs[2].flatten())  # noqa: E731
        lens = torch.full((6,), 20, device=inputs[0].device)
        return loss(module, (inputs[0], lens), [(inputs[1], lens)], task).total

    return model, (x, torch.where(torch.rand(6, 20) < 0.2, 100, x), x.roll(-1, 1)), run


def speech(units: int) -> tuple[nn.Module, Any, Run]:
    from irl_step import batch_of

    batch = batch_of(units, 4, 60, 12)
    config = EncoderDecoderConfig(
        encoder_units=units, decoder_units=units, embedding_units=units, attention_units=units, location_width=10
    )
    torch.manual_seed(0)
    module = SpeechStep(EncoderDecoder(80, 30, config), IRLLoss.preset("irl_loss"), 0.5)

    def run(module: nn.Module, inputs: Any) -> Tensor:
        clean, noisy, y, y_lens = inputs
        total: Tensor = module(batch._replace(clean=clean, noisy=[noisy], y=y, y_lens=y_lens), "paired", 0).total
        return total

    return module, (batch.clean, batch.noisy[0], batch.y, batch.y_lens), run


def check_model(device: str, model: nn.Module, inputs: Any, run: Run) -> Row:
    """Loss and every gradient in float32 on the device, and on the CPU, beside float64 on the CPU."""

    def gradients(where: str, dtype: torch.dtype) -> list[tuple[str, Tensor]]:
        own = copy.deepcopy(model).to(where, dtype).train()
        loss = run(own, on(inputs, where, dtype))
        loss.backward()
        return [("loss", loss), *((n, p.grad) for n, p in own.named_parameters() if p.grad is not None)]

    expected = dict(gradients("cpu", torch.float64))
    found: Row = {}
    for where in dict.fromkeys((device, "cpu")):
        pairs = gradients(where, torch.float32)
        found[f"loss on {where}"] = error(pairs[0][1], expected["loss"])
        # Gradients that are nothing but rounding, such as those before a normalisation, are measured by the largest.
        largest = max(float(g.abs().max()) for n, g in expected.items() if n != "loss")
        each = [(float((g.cpu().double() - expected[n]).abs().max()) / largest, n) for n, g in pairs[1:]]
        found[f"gradients on {where}"], found[f"worst on {where}"] = max(each)
    ok = found[f"loss on {device}"] < 1e-4 and found[f"gradients on {device}"] < 1e-2
    return {"ok": ok, **found}


# The training loop


def training_loop(part: Part) -> None:
    for name, module in (("images", "pictures"), ("words", "words"), ("speech", "tiny")):
        part.measure(f"resuming, {name}", lambda name=name, module=module: check_resume(part, name, module))
        if name != "speech":
            part.measure(f"resuming, {name}, recorded", lambda name=name: check_resume(part, name, "", True))
    part.measure("torchrun with one process", lambda: check_torchrun(part))
    part.measure("DDP and SyncBatchNorm in a group of one", lambda: check_group(part))


def check_resume(part: Part, name: str, module: str, recorded: bool = False) -> Row:
    """The recipes of the tests, whole: trained without a break, twice, and with one. module: of the tests, which builds
    the recipe, unless it is there. recorded: with CUDA graphs, beside the same without."""
    import importlib

    from tiny import run

    from irl.training import checkpoint

    folder = part.folder / name
    if module:
        folder.mkdir()
        importlib.import_module(module).build_recipe(folder)
    device = [f"train.accelerator={'gpu' if part.cuda else 'cpu'}", f"train.cuda_graphs={str(recorded).lower()}"]
    group = str(recorded)
    plan: dict[str, list[list[str]]] = {"whole": [[]], "again": [[]], "broken": [["--stop", "10"], []]}
    if recorded:
        plan["plain"] = [["train.cuda_graphs=false"]]
    for exp, runs in plan.items():
        for more in runs:
            run("irl.bin.train", "irl_loss.yaml", *device, *more, "--exp", f"exp/{group}/{exp}", cwd=folder)
    states = {exp: checkpoint.load(folder / "exp" / group / exp / "checkpoint.pt")["model"] for exp in plan}

    def away(a: str, b: str) -> tuple[float, str]:
        return worst((n, x, states[b][n]) for n, x in states[a].items())

    broken, again = away("broken", "whole"), away("again", "whole")
    plain = {"recorded beside plain": away("plain", "whole")[0]} if recorded else {}
    return {
        "ok": broken[0] == 0 and not any(plain.values()),
        "error": broken[0],
        "two unbroken runs": again[0],
        "worst": broken[1],
        **plain,
    }


def check_torchrun(part: Part) -> Row:
    folder = part.folder / "images"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m"]
    command += [
        "irl.bin.train",
        "irl_loss.yaml",
        "--exp",
        "exp/torchrun",
        f"train.accelerator={'gpu' if part.cuda else 'cpu'}",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=min(45, part.left()))
    lines = done.stderr.splitlines()
    return {"ok": done.returncode == 0, "last line": lines[-1][-200:] if lines else ""}


def check_group(part: Part) -> Row:
    """An update in a process group of NCCL (of gloo on a CPU) with all that several processes do, beside one alone."""
    from torch import distributed

    from irl.training.distributed import all_gather, all_reduce_max, all_reduce_sum, broadcast_tensors

    store = distributed.FileStore(str(part.folder / "store"), 1)
    distributed.init_process_group("nccl" if part.cuda else "gloo", store=store, rank=0, world_size=1)
    try:
        full_precision()
        model, inputs, run = wide_resnet(1)
        inputs = on(inputs, part.device)
        alone = copy.deepcopy(model).to(part.device)
        several: nn.Module = copy.deepcopy(model).to(part.device)
        if part.cuda:
            several = nn.SyncBatchNorm.convert_sync_batchnorm(several)
        wrapped = nn.parallel.DistributedDataParallel(several, device_ids=[0] if part.cuda else None)
        for module in (alone, wrapped):
            optimizer = torch.optim.SGD(module.parameters(), 0.01)
            run(module, inputs).backward()
            optimizer.step()
        pairs = zip(alone.state_dict().items(), several.state_dict().values(), strict=True)
        away = worst((name, y, x) for (name, x), y in pairs if x.is_floating_point())
        x = torch.arange(3.0, dtype=torch.float64)
        told = bool((all_reduce_sum(x) == x).all()) and all_reduce_max(5) == 5 and all_gather("a") == ["a"]
        broadcast_tensors(several.buffers())
        distributed.barrier()
        found = {"error": away[0], "worst": away[1], "backend": distributed.get_backend()}
    finally:
        distributed.destroy_process_group()
    return {"ok": told and away[0] < 1e-4, **found, **({} if part.cuda else {"note": "SyncBatchNorm refuses CPUs"})}


# Derivatives, search and attacks


class Given(Sigma):
    """Draws what it was given, so that devices draw the same."""

    def __init__(self, xi: Tensor) -> None:
        self.xi = xi

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.xi.to(x)

    def quadratic(self, g: Tensor) -> Tensor:
        return g.flatten(1).square().sum(1)


def derivatives_search_attacks(part: Part) -> None:
    full_precision()
    part.measure(
        "forward mode, WRN by hand", lambda: check_forward(part.device, small_resnet, torch.randn(4, 3, 16, 16))
    )
    part.measure(
        "forward mode, LSTM by dual tensors", lambda: check_forward(part.device, small_lstm, torch.randn(3, 7, 8))
    )
    for method in ("forward", "exact"):
        part.measure(f"lambda_r, {method}, and its gradient", lambda method=method: check_lambda(part.device, method))
        part.measure(
            f"lambda_r of an LSTM, {method}, and its gradient",
            lambda method=method: check_lambda(part.device, method, small_lstm, (3, 5, 8)),
        )
    part.measure("curvature of the loss", lambda: check_curvature(part.device))
    for dtype in (torch.float64, torch.float32):
        part.measure(f"beam search, {dtype}".replace("torch.", ""), lambda dtype=dtype: check_search(part, dtype))
    for kind in ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "random"):
        part.measure(f"attack {kind}", lambda kind=kind: check_attack(part.device, kind))


def small_resnet() -> nn.Module:
    torch.manual_seed(1)
    return WideResNet(5, WideResNetConfig(10, 1)).to(memory_format=torch.channels_last).eval()


def small_lstm() -> nn.Module:
    torch.manual_seed(1)
    return FromEmbeddings(LSTMLM(11, LSTMLMConfig(2, 12, 8))).eval()


def check_forward(device: str, make: Callable[[], nn.Module], x: Tensor) -> Row:
    torch.manual_seed(0)
    tangent = torch.randn_like(x)

    def run(where: str, dtype: torch.dtype) -> dict[str, Tensor]:
        value, (moved,) = push_forward(make().to(where, dtype), x.to(where, dtype), [tangent.to(where, dtype)])
        return {**{f"value {n}": v for n, v in value.named().items()}, **moved.named()}

    found, expected = run(device, torch.float32), run("cpu", torch.float64)
    away, name = worst((n, v, expected[n]) for n, v in found.items())
    return {"ok": away < 1e-4, "error": away, "worst": name}


def check_lambda(
    device: str, method: str, make: Callable[[], nn.Module] | None = None, shape: tuple[int, ...] = (4, 3, 8, 8)
) -> Row:
    torch.manual_seed(0)
    x, xi = torch.randn(shape), torch.randn(shape)
    layers = ["logits"] if method == "exact" else None

    def run(where: str, dtype: torch.dtype) -> dict[str, Tensor]:
        model = (make or small_resnet)().to(where, dtype)
        found = lambda_r(model, x.to(where, dtype), Given(xi), method, layers=layers)
        torch.stack([value.sum() for value in found.values()]).sum().backward()
        return {**found, **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}

    found, expected = run(device, torch.float32), run("cpu", torch.float64)
    away, name = worst((n, v, expected[n]) for n, v in found.items())
    return {"ok": away < 1e-3, "error": away, "worst": name}


def check_curvature(device: str) -> Row:
    torch.manual_seed(0)
    x, xi, y = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.arange(4)

    def run(where: str, dtype: torch.dtype) -> Tensor:
        return half_curvature(small_resnet().to(where, dtype), x.to(where, dtype), y.to(where), Given(xi))

    away = error(run(device, torch.float32), run("cpu", torch.float64))
    return {"ok": away < 1e-3, "error": away}


def check_search(part: Part, dtype: torch.dtype) -> Row:
    """Beam search with CTC and a language model over random weights, sharpened, so that hypotheses differ."""
    torch.manual_seed(0)
    units, words = 32, 12
    config = EncoderDecoderConfig(
        encoder_units=units, decoder_units=units, embedding_units=units, attention_units=units, location_width=10
    )
    model, lm = EncoderDecoder(20, words, config).eval(), LSTMLM(words, LSTMLMConfig(1, 16, 16)).eval()
    with torch.no_grad():
        for layer in (model.decoder.output, model.ctc, lm.output):
            layer.weight.mul_(8)
    x, lens = torch.randn(6, 40, 20), torch.tensor([40, 33, 21, 38, 9, 40])
    options = SearchOptions(beam=5, ctc_weight=0.3, lm_weight=0.2, max_length=0.3, nbest=3)

    @torch.no_grad()
    def run(where: str) -> list[Any]:
        own, own_lm = (copy.deepcopy(m).to(where, dtype) for m in (model, lm))
        encoded, _, layers = own.encoder.hidden_states(x.to(where, dtype), lens.to(where))
        log_probs = own.ctc.log_softmax(encoded)
        return beam_search(own.decoder, encoded, layers[-1], log_probs, words - 1, options, own_lm)

    found, expected = run(part.device), run("cpu")
    pairs = [(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)]
    equal = sum(a.tokens == b.tokens for a, b in pairs)
    away = max(abs(a.score - b.score) for a, b in pairs)
    ok = equal == len(pairs) if dtype == torch.float64 else equal >= 0.9 * len(pairs)
    return {"ok": ok, "equal hypotheses": f"{equal} of {len(pairs)}", "scores differ by": away}


def check_attack(device: str, kind: str) -> Row:
    torch.manual_seed(0)
    x, y = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    attack = Attack(AttackConfig(kind, 0.1, steps=5), torch.tensor([120.0] * 3), torch.tensor([60.0] * 3))

    def run(where: str) -> tuple[Tensor, float]:
        model = small_resnet().to(where)
        found = attack.apply(x.to(where), y.to(where), model, Keys(torch.arange(16, device=where), 1, "attack"))
        with torch.no_grad():
            losses = [float(F.cross_entropy(model(z).logits, y.to(where))) for z in (x.to(where), found)]
        return found.cpu(), losses[1] - losses[0]

    (found, raised), (expected, also) = run(device), run("cpu")
    share = float(((found - expected).abs() < 1e-3).float().mean())
    away = float((found - x).abs().max())
    ok = (
        away <= 0.1 + 1e-5 and share > (0.9 if kind in ("fgsm", "random") else 0.5) and (kind == "random" or raised > 0)
    )
    return {"ok": ok, "values as on the CPU": share, "loss raised by": raised, "on the CPU": also}
