"""Speech recognition: what a batch, a step and an evaluation mean for the encoder-decoder."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.errors import UserError
from irl.core.fingerprint import check_inputs
from irl.core.output import Output, tree_map
from irl.core.text_files import read_text
from irl.data.features import FeatureConfig
from irl.data.vocabulary import Vocabulary
from irl.models.encoder_decoder import EncoderDecoder
from irl.objective import IRLLoss, Terms
from irl.speech.beam_search import greedy_ctc
from irl.speech.config import SpeechConfig
from irl.speech.data import Batch, SpeechData
from irl.speech.fingerprint import data_fingerprint, transcripts_fingerprint
from irl.speech.scoring import count_edits
from irl.training.distributed import Shard
from irl.training.layer_stats import LayerStats
from irl.training.running_covariance import RunningCovariance
from irl.training.signals import StopSignals
from irl.training.task import BatchSpec, Phase, Step, Task


def task_loss(
    view: Output,
    y: Tensor,
    y_lens: Tensor,
    ctc_weight: float,
    label_smoothing: float = 0.0,
    tokens: float | Tensor | None = None,
) -> Tensor:
    """(1 - w) * cross-entropy + w * CTC, each a sum over samples, divided by their number of target tokens, or by
    `tokens`, the number in the global batch.

    label_smoothing: share of each target of the cross-entropy that is uniform over all tokens (Szegedy et al. 2016).
    """
    tokens = y_lens.sum() if tokens is None else tokens
    loss = view.logits.new_zeros(())
    if ctc_weight < 1:
        ce = F.cross_entropy(
            view.logits.flatten(0, 1), y.flatten(), ignore_index=-1, reduction="sum", label_smoothing=label_smoothing
        )
        loss = (1 - ctc_weight) * (ce / tokens)
    if ctc_weight > 0:
        # CTC's targets have no eos. An utterance with fewer frames than it needs has no alignment and counts 0.
        ctc = F.ctc_loss(
            view.extra["ctc"].float().log_softmax(-1).transpose(0, 1),
            y.clamp(min=0),
            view.lens["ctc"],
            y_lens - 1,
            reduction="sum",
            zero_infinity=True,
        )
        loss = loss + ctc_weight * ctc / tokens
    return loss


class SpeechStep(Step):
    def __init__(
        self,
        model: EncoderDecoder,
        objective: IRLLoss,
        ctc_weight: float,
        label_smoothing: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__(model, objective, ema)
        self.ctc_weight, self.label_smoothing = ctc_weight, label_smoothing

    def forward(self, batch: Batch, phase: Phase, step: int) -> Terms:
        size, tokens = batch.totals
        loss = lambda view: task_loss(  # noqa: E731
            view, batch.y, batch.y_lens, self.ctc_weight, self.label_smoothing, tokens
        )
        objective, targets = self.objectives[phase], self.targets(batch.clean, phase, step)
        return objective(self.model, batch.clean, batch.noisy, loss, step, size, batch.weight, targets)


def read_statistics(path: Path, features: FeatureConfig) -> RunningCovariance:
    """Sums of these features, a line of what stage 3 wrote. Raises UserError if they are missing or damaged, or if
    there are none of these settings."""
    found = None
    try:
        for line in read_text(path, "no such feature statistics; run stage 3 first").splitlines() or [""]:
            sums = json.loads(line)
            own = RunningCovariance.from_sums(int(sums["frames"]), sums["sum"], sums["sum_of_squares"])
            # Settings that are new in the package are at their defaults in older statistics.
            if {**asdict(FeatureConfig()), **sums["features"]} == asdict(features) and len(sums["sum"]) == features.dim:
                found = own
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError, RecursionError):
        raise UserError(f"{path}: damaged feature statistics; run stage 3 again") from None
    if found is None:
        raise UserError(f"{path}: made with different feature settings; run stage 3 again")
    return found


def _ignore_interrupts(worker: int) -> None:
    """Signals to a process group reach workers too; the loop still wants their batches to finish its step, and ends
    them when it has saved."""
    for signum in StopSignals.SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Python ends the workers that an error has left by the very signal that they ignore, and would wait for ever."""
    for worker in multiprocessing.active_children():
        worker.kill()


class SpeechTask(Task):
    def __init__(self, config: SpeechConfig, shard: Shard = Shard()) -> None:
        self.config, self.shard = config, shard
        self.vocabulary = Vocabulary.read(Path(config.vocabulary))
        made_from = transcripts_fingerprint(config.train_dir)
        check_inputs(Path(config.vocabulary), "run stage 3 again", transcripts=made_from)
        self.train = SpeechData(config.train_dir, config, self.vocabulary, "train", shard)
        self.dev = SpeechData(config.dev_dir, config, self.vocabulary, "dev")
        torch.manual_seed(config.seed)
        model = EncoderDecoder(config.features.dim, len(self.vocabulary), config.model)
        if config.features.normalise != "utterance":
            statistics = read_statistics(Path(config.statistics), config.features)
            train_data = data_fingerprint(Path(config.train_dir))
            check_inputs(Path(config.statistics), "run stage 3 again", train_data=train_data)
            model.encoder.mean.copy_(statistics.mean)
            model.encoder.std.copy_(statistics.std)
        objective = config.objective
        self.module = SpeechStep(model, objective.build(), config.ctc_weight, config.label_smoothing, objective.ema)

    def batches_in(self, epoch: int) -> int:
        return len(self.train.batches[epoch])

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterator[Batch]:
        # The specs are the sampler, so that workers are told what to make and nothing depends on their number.
        batches = torch.utils.data.DataLoader(
            self.train,
            batch_size=None,
            sampler=[(epoch, spec) for spec in specs],  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_ignore_interrupts,
        )
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def measure(self, stats: LayerStats) -> None:
        """Loss, without label smoothing, and CTC greedy character errors, and, where training draws
        noise, the same on one fixed noisy copy, and for each layer the relative L2 and cosine distances between the
        two, the clean norm, and the effective rank of clean activations, which falls with the distances where
        representations collapse.
        """
        noisy = 1 if self.dev.noise is not None else 0
        # Epoch 1, not 0, which may be in order of length; always the same, and with it the noise.
        for index in self.shard.take(range(len(self.dev.batches[1]))):
            spec = BatchSpec(index, True, noisy)
            batch: Batch = tree_map(lambda x: x.to(self.device), self.dev.make(1, spec))
            assert batch.clean is not None
            views = [self.module.model(**inputs) for inputs in [batch.clean, *batch.noisy]]
            rows = len(batch.ids)
            for name, view in zip(("clean", "noisy"), views):
                tokens = float(batch.y_lens.sum())
                loss = task_loss(view, batch.y, batch.y_lens, self.config.ctc_weight)
                stats.add(f"loss/{name}", tokens * float(loss), tokens)
                if "ctc" in view.extra:
                    for i, numbers in enumerate(greedy_ctc(view.extra["ctc"], view.lens["ctc"])):
                        reference = self.vocabulary.decode(batch.y[i, : batch.y_lens[i] - 1].tolist())
                        edits = count_edits(reference, self.vocabulary.decode(numbers))
                        stats.add(f"cer_ctc/{name}", edits.errors, edits.reference)
            if noisy:
                stats.compare(views[0], views[1], rows)

    def extra_state(self) -> dict[str, Any]:
        return {"tokens": self.vocabulary.tokens}
