"""A character language model of the training transcripts, for shallow fusion in speech recognition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.errors import UserError
from irl.core.fingerprint import check_inputs, file_fingerprint, remembered_of_file
from irl.core.output import Output
from irl.core.types import Checked, Seed
from irl.data.kaldi import read_table
from irl.data.ragged import Ragged, previous
from irl.data.sampler import EpochBatches
from irl.data.vocabulary import Vocabulary
from irl.models.lstm_lm import LSTMLM, LSTMLMConfig
from irl.objective import Terms
from irl.speech.fingerprint import transcripts_fingerprint
from irl.training.config import ObjectiveConfig, TrainConfig
from irl.training.distributed import BatchTotals, Shard
from irl.training.layer_stats import LayerStats
from irl.training.modality import MetricSpec, Modality
from irl.training.task import BatchSpec, Phase, Step, Task


@dataclass(frozen=True)
class CharacterLMConfig(Checked):
    """train_dir, dev_dir: data directories; only `text` is read. extra_text: plain files with more training text, a
    sentence a line, in characters of the vocabulary. vocabulary: the recogniser's."""

    train_dir: str
    dev_dir: str
    vocabulary: str
    task: Literal["character_lm"] = "character_lm"
    seed: Seed = 1
    extra_text: tuple[str, ...] = ()
    model: LSTMLMConfig = LSTMLMConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.build().needs_noisy:
            raise ValueError("objective: this task has no noisy views, beta and gamma must be 0")


class Batch(NamedTuple):
    """Sentences x (B, T) beginning with sos, x_lens (B,), and targets y (B, T) ending with eos, padded with -1. ids:
    their numbers, for bad_batch.pt. totals: the size of the global batch, with its tokens. weight: weight of these
    samples; 0 on a rank without own samples."""

    ids: list[int]
    clean: dict[str, Tensor]
    y: Tensor
    totals: BatchTotals
    weight: float = 1.0


def token_loss(view: Output, y: Tensor) -> Tensor:
    """Sum of the negative log likelihoods of tokens in nats, eos included."""
    return F.cross_entropy(view.logits.flatten(0, 1), y.flatten(), ignore_index=-1, reduction="sum")


class CharacterLMStep(Step):
    def forward(self, batch: Batch, phase: Phase, step: int) -> Terms:
        loss = lambda view: token_loss(view, batch.y) / batch.totals.targets  # noqa: E731
        size = batch.totals.global_batch_size
        return self.objectives[phase](self.model, batch.clean, [], loss, step, size, batch.weight)


def make_batch(sentences: Ragged, rows: list[int], eos: int, shard: Shard = Shard()) -> Batch:
    totals = BatchTotals(len(rows), sentences.count(rows))
    rows, weight = shard.batch(rows)
    y, lens = sentences.batch(rows)
    return Batch(rows, {"x": previous(y, eos), "x_lens": lens}, y, totals, weight)


def transcripts(folder: str) -> Iterator[tuple[str, str]]:
    """(where, text) of a data directory."""
    path = Path(folder) / "text"
    for key, text in read_table(path).items():
        yield f"{path}: {key}", " ".join(text.split())


def plain_text(path: str) -> Iterator[tuple[str, str]]:
    """(where, text) of the lines of a file that are not empty."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", " ".join(line.split())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from None


class CharacterLMTask(Task):
    def __init__(self, config: CharacterLMConfig, shard: Shard = Shard()) -> None:
        self.config, self.shard = config, shard
        self.vocabulary = Vocabulary.read(Path(config.vocabulary))
        made_from = transcripts_fingerprint(config.train_dir)
        check_inputs(Path(config.vocabulary), "run stage 3 again", transcripts=made_from)
        texts = [transcripts(config.train_dir), *map(plain_text, config.extra_text)]
        self.train = self._sentences(item for text in texts for item in text)
        self.dev = self._sentences(transcripts(config.dev_dir))
        lengths = self.train.lengths
        self.batches = EpochBatches(torch.arange(len(lengths)), lengths, config.train.batch_size, config.seed)
        torch.manual_seed(config.seed)
        self.module = CharacterLMStep(LSTMLM(len(self.vocabulary), config.model), config.objective.build())

    def _sentences(self, texts: Iterable[tuple[str, str]]) -> Ragged:
        places, found = zip(*texts)
        return self.vocabulary.encode_all(found, places.__getitem__)

    def batches_in(self, epoch: int) -> int:
        return len(self.batches[epoch])

    def loader(self, epoch: int, specs: list[BatchSpec], workers: int) -> Iterator[Batch]:
        """Making a batch takes no time worth a worker."""
        for spec in specs:
            yield make_batch(self.train, self.batches[epoch][spec.batch], self.vocabulary.eos, self.shard)

    def measure(self, stats: LayerStats) -> None:
        """Negative log likelihood of a dev token in nats, eos included; exp of it is the perplexity of a character."""
        rows, size = list(range(len(self.dev.lengths))), self.config.train.batch_size
        for begin in self.shard.take(range(0, len(rows), size)):
            batch = make_batch(self.dev, rows[begin : begin + size], self.vocabulary.eos)
            view = self.module.model(**{name: value.to(self.device) for name, value in batch.clean.items()})
            stats.add("loss/clean", float(token_loss(view, batch.y.to(self.device))), int((batch.y >= 0).sum()))

    def extra_state(self) -> dict[str, Any]:
        return {"tokens": self.vocabulary.tokens}


class CharacterLM(Modality):
    """A task that helps recognition: it is trained, and nothing else."""

    name = "character_lm"
    metric = MetricSpec("perplexity of a character", "", "sentences")

    Config = CharacterLMConfig

    def task(self, config: Any, shard: Shard) -> Task:
        return CharacterLMTask(config, shard)

    def train_data(self, config: Any) -> dict[str, str]:
        texts = [transcripts_fingerprint(config.train_dir)]
        texts += [remembered_of_file(path, lambda: file_fingerprint(path)) for path in map(Path, config.extra_text)]
        dev = transcripts_fingerprint(config.dev_dir) if config.train.average else ""
        return {"train_data": "+".join(texts), "dev_data": dev}


modality = CharacterLM()
