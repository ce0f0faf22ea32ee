"""Word language modelling: what a batch, a step and an evaluation mean for the LSTM."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.errors import UserError
from irl.core.fingerprint import check_inputs
from irl.core.output import Output
from irl.core.rng import Keys
from irl.data.text import WordVocabulary, tracks
from irl.language.config import LanguageConfig
from irl.language.perplexity import build_model, read_through, token_losses
from irl.language.prepare import vocabulary_inputs
from irl.models.ema import EMA
from irl.models.lstm_lm import LSTMLM, LMState
from irl.noise.text import WordNoise
from irl.objective import Terms
from irl.objective.activation import ar_and_tar
from irl.training.distributed import BatchTotals, Shard, all_reduce_sum
from irl.training.layer_stats import LayerStats, Stat
from irl.training.task import BatchSpec, Phase, Step, Task

TEACHER = "teacher_"  # before the names of a teacher's states in a checkpoint


class Batch(NamedTuple):
    """Views (B, T) of the same rows of text and the words that follow, y (B, T). clean is None where no term looks at
    it. first: the rows begin here, with states of zero. ids: where in the text each row begins. totals: the size of the
    global batch, with its words."""

    ids: Tensor
    clean: Tensor | None
    noisy: list[Tensor]
    y: Tensor
    first: bool
    totals: BatchTotals


class LanguageStep(Step):
    """It keeps the state of all views between steps."""

    def __init__(self, model: LSTMLM, config: LanguageConfig) -> None:
        super().__init__(model, config.objective.build(), config.objective.ema)
        self.sum_over_time, self.share_dropout = config.sum_over_time, config.share_dropout
        self.ar, self.tar = config.ar, config.tar
        self.state: LMState | None = None
        self.teacher_state: LMState | None = None

    def run(self, x: Tensor) -> Output:
        """The output for stacked views (views * B, T), which go on from the state after the last step."""
        if self.state is None:
            self.state = self.model.first_state(len(x))
        if self.state.h.shape[1] != len(x):
            # After the clean phase every view goes on from the state of the clean one.
            self.state = LMState(*(part.repeat(1, len(x) // part.shape[1], 1) for part in self.state))
        output, state = self.model.read(x, self.state)
        self.state = LMState(*(part.detach() for part in state))
        return output

    @torch.no_grad()
    def run_teacher(self, teacher: EMA, clean: Tensor) -> Output:
        """The teacher carries its own states. They begin as those of the clean view, where there was a clean phase."""
        model: LSTMLM = teacher.model
        state = self.teacher_state or self.state or model.first_state(len(clean))
        output, self.teacher_state = model.read(clean, LMState(*(part[:, : len(clean)] for part in state)))
        return output

    def forward(self, batch: Batch, phase: Phase, step: int) -> Terms:
        if batch.first:
            self.state = self.teacher_state = None
        size, words = batch.totals
        loss = lambda view: (  # noqa: E731
            F.cross_entropy(view.logits.flatten(0, 1), batch.y.flatten(), reduction="sum") / words
        )
        self.model.dropout.shared = int(batch.clean is not None) + len(batch.noisy) if self.share_dropout else 1
        targets = self.targets(batch.clean, phase, step)
        last: list[Tensor] = []

        def run(x: Tensor) -> Output:
            output = self.run(x)
            last.append(output.hidden[self.model.names[-1]])
            return output

        terms = self.objectives[phase](run, batch.clean, batch.noisy, loss, step, size, targets=targets)
        if phase == "paired" and (self.ar or self.tar):
            terms = self._regularised(terms, last[0], len(batch.y) / size)
        return terms._replace(total=terms.total * batch.y.shape[1]) if self.sum_over_time else terms

    def _regularised(self, terms: Terms, states: Tensor, share: float) -> Terms:
        """With activation regularisation of the states of all views. share: of the samples, where several processes
        have parts."""
        ar, tar = (share * term for term in ar_and_tar(states))
        extra = {**terms.extra, "ar": ar, "tar": tar}
        return terms._replace(total=terms.total + self.ar * ar + self.tar * tar, extra=extra)


class LanguageTask(Task):
    def __init__(self, config: LanguageConfig, shard: Shard = Shard()) -> None:
        self.config, self.shard = config, shard
        # The first update of a teacher differs from those after it.
        self.recordable = not config.objective.ema
        self.vocabulary = WordVocabulary.read(Path(config.vocabulary))
        check_inputs(Path(config.vocabulary), "run stage 3 again", **vocabulary_inputs(config))
        train = self.vocabulary.encode(Path(config.train_text))
        self.tracks = tracks(train, config.train.batch_size, config.bptt, config.train_text)
        self.dev = self.vocabulary.encode(Path(config.dev_text))
        if len(self.dev) < 2:
            raise UserError(f"{config.dev_text}: no word to predict")
        self.noise = WordNoise.of_text(config.noise, train, torch.tensor(self.vocabulary.counts))
        torch.manual_seed(config.seed)
        self.module = LanguageStep(build_model(config, len(self.vocabulary)), config)

    def batches_in(self, epoch: int) -> int:
        return -(-(self.tracks.shape[1] - 1) // self.config.bptt)

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterator[Batch]:
        """Batches are made on the device that trains: workers would have nothing to do."""
        self.tracks = self.tracks.to(self.device)
        for spec in specs:
            yield self.make(epoch, spec)

    def make(self, epoch: int, spec: BatchSpec) -> Batch:
        length = self.tracks.shape[1]
        begin = spec.batch * self.config.bptt
        end = min(begin + self.config.bptt, length - 1)
        rows = self.shard.take(torch.arange(len(self.tracks), device=self.tracks.device))
        x, y = self.tracks[rows, begin:end], self.tracks[rows, begin + 1 : end + 1]
        starts = rows * length + begin
        positions = (starts[:, None] + torch.arange(end - begin, device=x.device)).flatten()
        keys = [Keys(positions, self.config.seed, "noise/train", epoch, copy) for copy in range(1, spec.noisy + 1)]
        noisy = [self.noise.apply(x, self.noise.draw(k)) for k in keys]
        totals = BatchTotals(len(self.tracks), len(self.tracks) * (end - begin))
        return Batch(starts, x if spec.clean else None, noisy, y, spec.batch == 0, totals)

    def measure(self, stats: LayerStats) -> None:
        """The dev text is read as one row, and so by the first process alone: negative log likelihood of a token in
        nats, and, where training draws noise, the same after one fixed noisy copy, and for each layer distances, norms
        and ranks as in other tasks."""
        self.dev = self.dev.to(self.device)
        texts = [self.dev]
        if self.module.objectives["paired"].needs_noisy:
            keys = Keys(torch.arange(len(self.dev), device=self.device), self.config.seed, "noise/dev", 0, 1)
            texts.append(self.noise.apply(self.dev, self.noise.draw(keys)))
        for chunk, views in read_through(self.module.model, texts) if self.shard.rank == 0 else ():
            count = chunk.stop - chunk.start
            for name, view in zip(("clean", "noisy"), views):
                stats.add(f"loss/{name}", float(token_losses(view, self.dev, chunk).double().sum()), count)
            if len(views) > 1:
                stats.compare(views[0], views[1], count)

    def extra_state(self) -> dict[str, Any]:
        """What reading a text needs beside weights and configuration."""
        return {"words": self.vocabulary.words}

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """The loss on the clean text: noise is for training only (Xie et al. 2017)."""
        return dev["loss/clean"].mean

    def hidden_state(self) -> dict[str, Tensor]:
        """(L, views * B, H) each, and (L, B, H) of a teacher."""
        own, teacher = ({} if s is None else s._asdict() for s in (self.module.state, self.module.teacher_state))
        return {**own, **{TEACHER + name: part for name, part in teacher.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        found = [
            [state[prefix + name].to(self.device) for name in LMState._fields if prefix + name in state]
            for prefix in ("", TEACHER)
        ]
        self.module.state, self.module.teacher_state = (LMState(*parts) if parts else None for parts in found)

    def gather_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """(L, views * B, H) each, with the rows of all processes."""
        gathered = {}
        for name, own in state.items():
            own = own.unflatten(1, (-1, len(self.shard.take(self.tracks))))
            rows = own.new_zeros(len(own), own.shape[1], len(self.tracks), own.shape[3])
            rows[:, :, self.shard.rank :: self.shard.world_size] = own
            gathered[name] = all_reduce_sum(rows).flatten(1, 2)
        return gathered

    def shard_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = {name: part.unflatten(1, (-1, len(self.tracks))) for name, part in state.items()}
        return {name: part[:, :, self.shard.rank :: self.shard.world_size].flatten(1, 2) for name, part in rows.items()}
