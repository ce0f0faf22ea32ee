"""Time and peak memory of one update of each method, beside IRL batching.

The rows are the configuration files of the recipes, at the sizes of conf/fsdd, conf/short and conf/ptb_start, on random
inputs. A row's update is the model, its loss, the backward pass, clipping and the optimizer; images also include noise
and attacks, which look at the model or at the image.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from harness import Report, alternate, arguments, median_interval, parse, peaks
from irl_step import MELS, TOKENS, batch_of, resident

from irl.data.images import Images, write
from irl.language.perplexity import build_model
from irl.language.task import Batch as LanguageBatch
from irl.language.task import LanguageStep
from irl.models.encoder_decoder import EncoderDecoder
from irl.speech.task import SpeechStep
from irl.training.config import OPTIMIZERS
from irl.training.distributed import BatchTotals
from irl.training.registry import read_config
from irl.vision.prepare import prepare
from irl.vision.task import VisionTask

EGS = Path(__file__).parents[2] / "egs"
WORDS = 4192  # of the first 120,000 words of the Penn Treebank
SPEECH = {
    "baseline": "methods/baseline", "data aug.": "methods/data_aug", "IRL batching": "fsdd/irl_batching",
    "IRL loss": "fsdd/irl_loss", "clean loss and distance": "fsdd/unseen/beta_0", "norms": "fsdd/ablations/norms",
    "instance-normalised": "fsdd/unseen/instance", "EMA teacher": "fsdd/unseen/ema", "VICReg": "fsdd/unseen/vicreg",
    "KL of CTC posteriors": "fsdd/unseen/kl_ctc", "KL of the decoder": "fsdd/unseen/kl_decoder",
    "CR-CTC": "fsdd/unseen/cr_ctc",
    "IRL batching, 2 copies": "fsdd/ablations/batching_copies_2", "IRL loss, 2 copies": "fsdd/ablations/copies_2",
}  # fmt: skip
VISION = {
    "baseline": "methods/baseline", "data aug.": "methods/data_aug", "IRL batching": "short/irl_batching",
    "IRL loss": "methods/irl_loss", "adv. trn.": "methods/adversarial", "stability": "special/stability",
    "TRADES": "special/trades", "Pi-model": "special/pi_model", "R-Drop": "special/r_drop",
    "Mean Teacher": "special/mean_teacher", "VAT": "special/vat", "AugMix": "special/augmix",
}  # fmt: skip
LANGUAGE = {
    "baseline": "methods/baseline",
    "data aug.": "methods/data_aug_blank",
    "IRL batching": "ptb_start/irl_batching_blank",
    "IRL loss": "ptb_start/irl_loss_blank",
    "KL of the outputs": "methods/kl_blank",
    "R-Drop": "methods/r_drop",
    "fraternal dropout": "methods/fraternal",
    "AR and TAR": "methods/ar_tar",
}


def config_of(recipe: str, corpus: str, name: str, *overrides: str) -> Any:
    """The configuration of a row, where a file of conf/methods is that of the corpus."""
    path = EGS / recipe / "conf" / f"{name}.yaml"
    if name.startswith("methods/"):
        path = EGS / recipe / "conf" / corpus / path.name
    return read_config(path, list(overrides))


def speech(name: str, folder: Path, bf16: bool = False, compiled: bool = False) -> Callable[[], Any]:
    config = config_of("wsj", "fsdd", SPEECH[name])
    units = config.model.encoder_units
    objective = config.objective
    model = EncoderDecoder(MELS, TOKENS, config.model)
    module = SpeechStep(model, objective.build(), config.ctc_weight, 0.0, objective.ema)
    batch = batch_of(units, config.train.batch_size, 80, 25)
    clean, noisy = module.objectives["paired"].needs_clean, module.objectives["paired"].needs_noisy
    copies = batch.noisy * objective.copies if noisy else []
    return update(module, batch._replace(clean=batch.clean if clean else None, noisy=copies), config, bf16, compiled)


def language(name: str, folder: Path, bf16: bool = False, compiled: bool = False) -> Callable[[], Any]:
    config = config_of("ptb", "ptb_start", LANGUAGE[name])
    module = LanguageStep(build_model(config, WORDS), config)
    rows, steps = config.train.batch_size, config.bptt
    x = torch.randint(1, WORDS, (rows, steps + 1))
    paired = module.objectives["paired"]
    noisy = [x[:, :-1].clone()] * config.objective.copies if paired.needs_noisy else []
    totals = BatchTotals(rows, rows * steps)
    batch = LanguageBatch(torch.arange(rows), x[:, :-1] if paired.needs_clean else None, noisy, x[:, 1:], False, totals)
    return update(module, batch, config, bf16, compiled)


def vision(name: str, folder: Path, bf16: bool = False, compiled: bool = False) -> Callable[[], Any]:
    size = ["model.depth=16", "model.width=1", "train.batch_size=128", "train.clean_updates=0"]
    sets = [f"train_set={folder}/train.npz", f"dev_set={folder}/dev.npz", f"statistics={folder}/s.json"]
    config = config_of("cifar", "short", VISION[name], *size, *sets)
    if not (folder / "s.json").exists():
        rng = np.random.default_rng(0)
        for part, count in (("train", 256), ("dev", 20)):
            pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            labels = np.arange(count) % 10
            write(folder / f"{part}.npz", Images(pixels, labels, np.arange(count), [str(i) for i in range(10)]))
        prepare(config, [])
    task = VisionTask(config)
    task.module.train()
    spec = task.spec(0, "paired")

    def batch() -> Any:
        return next(iter(task.loader(0, [spec], 0)))

    return update(task.module, batch, config, bf16, compiled)


def update(module: Any, batch: Any, config: Any, bf16: bool, compiled: bool) -> Callable[[], None]:
    """One update on a batch, or on what `batch` makes. bf16: as train.precision bf16-mixed. compiled: the model."""
    if compiled:
        # Texts are read with the hidden state of the words before.
        name = "read" if hasattr(module.model, "read") else "forward"
        setattr(module.model, name, torch.compile(getattr(module.model, name)))
    kind, options = OPTIMIZERS[config.train.optimizer]
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = kind(weights, lr=1e-3, **options)
    module.train()
    count = 0

    def step() -> None:
        nonlocal count
        inputs = batch() if callable(batch) else batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = module(inputs, "paired", count)
        count += 1
        found.total.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.train.clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()

    return step


PARTS = {"speech": (speech, SPEECH), "images": (vision, VISION), "text": (language, LANGUAGE)}


def peak(part: str, name: str, folder: Path, threads: int) -> float:
    """Most resident memory during four updates less that before the model, in MiB; in a process of its own."""
    torch.set_num_threads(threads)
    before = resident("VmRSS")
    step = PARTS[part][0](name, folder)
    for _ in range(4):
        step()
    return resident("VmHWM") - before


def main() -> None:
    parser = arguments(__doc__, rounds=20)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parse(parser)
    report = Report("What a method costs", args)
    report.say(
        "Time and peak memory of one update, divided by those of IRL batching in the same rounds: conf/fsdd with 8 "
        "utterances of 0.8 s, WRN-16-1 with 128 images, 2x200 LSTM with 20 rows of 35 words. Memory is once each, in a "
        "process of its own, with the model and the optimizer."
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in args.parts:
            make, rows = PARTS[part]
            torch.manual_seed(0)
            seconds = alternate({row: make(row, folder) for row in rows}, args.rounds, label=part)
            memories = peaks(peak, {row: (part, row, folder, args.threads) for row in rows})
            print(f"| {part} | median, ms | time | peak memory, MiB | memory |\n|---|---|---|---|---|")
            base = "IRL batching"
            for row in rows:
                time, memory = median_interval(seconds[row] / seconds[base]), memories[row] / memories[base]
                milliseconds = 1000 * float(np.median(seconds[row]))
                print(f"| {row} | {milliseconds:.3g} | {time} | {memories[row]:.0f} | {memory:.2f} |")
            print()
    report.close()


if __name__ == "__main__":
    main()
