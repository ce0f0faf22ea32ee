"""Word language modelling: what a batch, a step and an evaluation mean for the LSTM."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irl import checkpoint
from irl.data.text import WordVocabulary, tracks
from irl.errors import UserError
from irl.models.lstm_lm import LSTMLM, LMState, LSTMLMConfig
from irl.noise.text import EXTRA, WordNoise, WordNoiseConfig
from irl.objective import IRLLoss, Terms
from irl.processes import Part, Whole, total
from irl.random import Keys
from irl.tasks.base import BaseTask, ObjectiveConfig, Plan, Stat, TrainConfig
from irl.tasks.loading import load_model
from irl.tasks.measured import Measured
from irl.types import Output

EVALUATED = 500  # tokens at once; results do not depend on it


@dataclass(frozen=True)
class LanguageConfig:
    """A whole experiment with text.

    bptt: tokens of each row that a step looks at; states are carried from step to step. sum_over_time: the objective is
    multiplied by that number, so that the loss is a sum over time and a mean over rows (Zaremba et al. 2014).
    share_dropout: the views of a text have the same dropout masks. min_count: words that the training text has fewer
    times are <unk>.
    """

    train_text: str
    dev_text: str
    vocabulary: str
    min_count: int = 1
    task: str = "language"
    seed: int = 1
    bptt: int = 35
    sum_over_time: bool = True
    share_dropout: bool = False
    model: LSTMLMConfig = LSTMLMConfig()
    noise: WordNoiseConfig = WordNoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if self.bptt < 1:
            raise ValueError(f"bptt must be at least 1, got {self.bptt}")
        if self.min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {self.min_count}")
        names = layer_names(self.model)
        # Unknown layers are refused here, before any training, not at the end of the clean phase.
        self.objective.build().layer_weights([*names, "logits"], names)


def layer_names(model: LSTMLMConfig) -> list[str]:
    return ["embedding", *(f"rnn.{i}" for i in range(model.layers))]


class Batch(NamedTuple):
    """Views (B, T) of the same rows of text and the words that follow, y (B, T). clean is None where no term looks at
    it. first: the rows begin here, with states of zero. ids: where in the text each row begins. whole: the size of the
    batch that this may be a part of, with its words."""

    ids: Tensor
    clean: Tensor | None
    noisy: list[Tensor]
    y: Tensor
    first: bool
    whole: Whole


class LanguageStep(nn.Module):
    """The model with its loss inside, as the loop calls it, and the states of all views, carried from step to step."""

    def __init__(self, model: LSTMLM, config: LanguageConfig) -> None:
        super().__init__()
        self.model = model
        self.sum_over_time, self.share_dropout = config.sum_over_time, config.share_dropout
        self.state: LMState | None = None
        # Set by the loop before each step: Fabric's precision plugins walk through arguments, and refuse dataclasses.
        self.objective = IRLLoss.row("baseline")

    def run(self, x: Tensor) -> Output:
        """Stacked views (views * B, T), after the state that the step before left."""
        if self.state is None:
            self.state = self.model.first_state(len(x))
        if self.state.h.shape[1] != len(x):
            # At the end of a clean phase every view goes on from the state of the clean one.
            self.state = LMState(*(part.repeat(1, len(x) // part.shape[1], 1) for part in self.state))
        output, state = outputs(self.model, x, self.state)
        self.state = LMState(*(part.detach() for part in state))
        return output

    def forward(self, batch: Batch, step: int) -> Terms:
        if batch.first:
            self.state = None
        rows, words = batch.whole
        loss = lambda view: (  # noqa: E731
            F.cross_entropy(view.logits.flatten(0, 1), batch.y.flatten(), reduction="sum") / words
        )
        self.model.dropout.shared = int(batch.clean is not None) + len(batch.noisy) if self.share_dropout else 1
        terms = self.objective(self.run, batch.clean, batch.noisy, loss, step, rows)
        return terms._replace(total=terms.total * batch.y.shape[1]) if self.sum_over_time else terms


def outputs(model: LSTMLM, x: Tensor, state: LMState) -> tuple[Output, LMState]:
    """x (N, T) after a state -> logits (N, T, V) and hidden states (N, T, D), all valid, and the state after them."""
    logits, hidden, state = model.hidden_states(x, state)
    lens = torch.full((len(x),), x.shape[1], device=x.device)
    names = ["embedding", *(f"rnn.{i}" for i in range(len(hidden) - 1))]
    return Output(logits, dict(zip(names, hidden)), dict.fromkeys([*names, "logits"], lens)), state


def read_through(model: LSTMLM, texts: list[Tensor]) -> Iterator[tuple[slice, list[Output]]]:
    """Views of a text and its copies, each read as one row from its first word on: for chunks of the positions 0 to
    N - 2, after each of which a word is predicted, the chunk and a view of each. States go on: chunks change nothing.
    """
    states = [model.first_state(1) for _ in texts]
    for begin in range(0, len(texts[0]) - 1, EVALUATED):
        chunk = slice(begin, min(begin + EVALUATED, len(texts[0]) - 1))
        views = []
        for i, text in enumerate(texts):
            view, states[i] = outputs(model, text[None, chunk], states[i])
            views.append(view)
        yield chunk, views


def token_losses(view: Output, text: Tensor, chunk: slice) -> Tensor:
    """Negative log likelihood in nats of the words that follow the positions of a chunk."""
    target = text[chunk.start + 1 : chunk.stop + 1]
    return F.cross_entropy(view.logits[0].float(), target, reduction="none")


class LanguageTask(BaseTask):
    """The task of the training loop (see `irl.tasks.base.Task`)."""

    recordable = True

    def __init__(self, config: LanguageConfig, part: Part = Part()) -> None:
        self.config, self.part = config, part
        self.vocabulary = WordVocabulary.read(Path(config.vocabulary))
        train = self.vocabulary.encode(Path(config.train_text))
        self.digest = hashlib.blake2b(train.numpy().tobytes(), digest_size=8).hexdigest()
        self.tracks = tracks(train, config.train.batch_size, config.bptt, config.train_text)
        self.dev = self.vocabulary.encode(Path(config.dev_text))
        if len(self.dev) < 2:
            raise UserError(f"{config.dev_text}: no word to predict")
        self.noise = WordNoise(config.noise, torch.tensor(self.vocabulary.counts))
        torch.manual_seed(config.seed)
        self.module = LanguageStep(build_model(config, len(self.vocabulary)), config)

    def batches_in(self, epoch: int) -> int:
        return -(-(self.tracks.shape[1] - 1) // self.config.bptt)

    def loader(self, epoch: int, plans: list[Plan], workers: int) -> Iterator[Batch]:
        """Batches are made on the device that trains: workers would have nothing to do."""
        self.tracks = self.tracks.to(next(self.module.parameters()).device)
        for plan in plans:
            yield self.make(epoch, plan)

    def make(self, epoch: int, plan: Plan) -> Batch:
        length = self.tracks.shape[1]
        begin = plan.batch * self.config.bptt
        end = min(begin + self.config.bptt, length - 1)
        rows = self.part.take(torch.arange(len(self.tracks), device=self.tracks.device))
        x, y = self.tracks[rows, begin:end], self.tracks[rows, begin + 1 : end + 1]
        starts = rows * length + begin
        positions = (starts[:, None] + torch.arange(end - begin, device=x.device)).flatten()
        keys = [Keys(positions, self.config.seed, "noise/train", epoch, copy) for copy in range(1, plan.noisy + 1)]
        noisy = [self.noise.apply(x, self.noise.draw(k)) for k in keys]
        whole = Whole(len(self.tracks), len(self.tracks) * (end - begin))
        return Batch(starts, x if plan.clean else None, noisy, y, plan.batch == 0, whole)

    @torch.no_grad()
    def evaluate(self) -> dict[str, Stat]:
        """On the dev text, read as one row, and so by the first process alone: negative log likelihood of a token in
        nats, and, where training draws noise, the same after one fixed noisy copy, and for each layer distances, norms
        and ranks as in other tasks."""
        model, device = self.module.model, next(self.module.parameters()).device
        measured = Measured()
        self.dev = self.dev.to(device)
        texts = [self.dev]
        if self.config.objective.build().needs_noisy:
            keys = Keys(torch.arange(len(self.dev), device=device), self.config.seed, "noise/dev", 0, 1)
            texts.append(self.noise.apply(self.dev, self.noise.draw(keys)))
        model.eval()
        for chunk, views in read_through(model, texts) if self.part.rank == 0 else ():
            count = chunk.stop - chunk.start
            for name, view in zip(("clean", "noisy"), views):
                measured.add(f"loss/{name}", float(token_losses(view, self.dev, chunk).double().sum()), count)
            if len(views) > 1:
                measured.compare(views[0], views[1], count)
        model.train()
        return measured.found()

    def extra_state(self) -> dict[str, Any]:
        """What reading a text needs beside weights and configuration; and what the model was trained on."""
        return {"words": self.vocabulary.words, "train_data": self.digest}

    def selection_loss(self, dev: dict[str, Stat]) -> float:
        """Of the text as it is: noise is for training only (Xie et al. 2017)."""
        return dev["loss/clean"].mean

    def carried(self) -> dict[str, Tensor]:
        return {} if self.module.state is None else self.module.state._asdict()

    def carry(self, state: dict[str, Tensor]) -> None:
        device = next(self.module.parameters()).device
        self.module.state = LMState(**{name: part.to(device) for name, part in state.items()}) if state else None

    def gather(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        """(L, views * B, H) each, with the rows of all processes."""
        whole = {}
        for name, own in carried.items():
            own = own.unflatten(1, (-1, len(self.part.take(self.tracks))))
            rows = own.new_zeros(len(own), own.shape[1], len(self.tracks), own.shape[3])
            rows[:, :, self.part.rank :: self.part.of] = own
            whole[name] = total(rows).flatten(1, 2)
        return whole

    def own(self, carried: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = {name: whole.unflatten(1, (-1, len(self.tracks))) for name, whole in carried.items()}
        return {name: whole[:, :, self.part.rank :: self.part.of].flatten(1, 2) for name, whole in rows.items()}


def build_model(config: LanguageConfig, words: int) -> LSTMLM:
    return LSTMLM(words, config.model, extra=len(EXTRA))


def load(path: Path, device: torch.device | str) -> tuple[LSTMLM, WordVocabulary, LanguageConfig]:
    """The model of a checkpoint, or the mean of its best weights, in eval mode; words without counts."""
    state, config, weights = load_model(path, "language", LanguageConfig)
    vocabulary = WordVocabulary(state["words"], [0] * len(state["words"]))
    model = build_model(config, len(vocabulary))
    checkpoint.load_weights(model, weights, path)
    return model.to(device).eval(), vocabulary, config
