"""Speech recognition: what a batch, a step and an evaluation mean for the encoder-decoder."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from irl.data.batches import epoch_batches
from irl.data.features import FeatureConfig, LogMel, pad_waves
from irl.data.kaldi import num_samples, read_data_dir, read_wave
from irl.data.vocabulary import Vocabulary
from irl.errors import UserError
from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from irl.noise.audio import Noise
from irl.noise.conditions import NoiseConfig
from irl.noise.masks import SpecAugment
from irl.objective import L2, Cosine, IRLLoss, Terms
from irl.random import Keys, hash_ids
from irl.tasks.base import ObjectiveConfig, Plan, Scatter, Stat, TrainConfig, layer_norms, valid_frames
from irl.tasks.beam_search import greedy_ctc
from irl.tasks.edits import count_edits
from irl.types import Output


@dataclass(frozen=True)
class SpeechConfig:
    """A whole speech experiment. ctc_weight: of the CTC loss in the sum of both, in [0, 1)."""

    train_dir: str
    dev_dir: str
    vocabulary: str
    statistics: str
    task: str = "speech"
    seed: int = 1
    ctc_weight: float = 0.5
    allow_pipes: bool = False
    short_first: bool = True
    features: FeatureConfig = FeatureConfig()
    model: EncoderDecoderConfig = EncoderDecoderConfig()
    noise: NoiseConfig = NoiseConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if not 0 <= self.ctc_weight < 1:
            raise ValueError(f"ctc_weight must be in [0, 1), got {self.ctc_weight}")
        if (self.ctc_weight > 0) != self.model.ctc:
            # A head that is never trained would be listened to in decoding.
            raise ValueError(f"ctc_weight is {self.ctc_weight}, but model.ctc is {str(self.model.ctc).lower()}")
        known = self.model.layer_names()
        names = [*known, "logits", *(["ctc"] if self.model.ctc else [])]
        # Unknown layers are refused here, before any training, not at the end of the clean phase.
        self.objective.build().layer_weights(names, known)


class Batch(NamedTuple):
    """Views of the same utterances as model inputs, and their targets. clean is None where no term looks at it.

    y: int64 (B, U) padded with -1, y_lens (B,); the last target of every utterance is eos.
    """

    ids: list[str]
    clean: dict[str, Tensor] | None
    noisy: list[dict[str, Tensor]]
    y: Tensor
    y_lens: Tensor


def task_loss(view: Output, y: Tensor, y_lens: Tensor, ctc_weight: float) -> Tensor:
    """(1 - w) * cross-entropy + w * CTC, each summed over the batch and divided by its number of target tokens."""
    loss = view.logits.new_zeros(())
    if ctc_weight < 1:
        loss = (1 - ctc_weight) * F.cross_entropy(view.logits.flatten(0, 1), y.flatten(), ignore_index=-1)
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
        loss = loss + ctc_weight * ctc / y_lens.sum()
    return loss


class SpeechStep(nn.Module):
    """The model with its loss inside, as the loop calls it."""

    def __init__(self, model: EncoderDecoder, ctc_weight: float) -> None:
        super().__init__()
        self.model = model
        self.ctc_weight = ctc_weight
        # Set by the loop before each step: Fabric's precision plugins walk through arguments, and refuse dataclasses.
        self.objective = IRLLoss.row("baseline")

    def forward(self, batch: Batch, step: int) -> Terms:
        return self.objective(
            self.model,
            batch.clean,
            batch.noisy,
            lambda view: task_loss(view, batch.y, batch.y_lens, self.ctc_weight),
            step,
        )


class SpeechData(torch.utils.data.Dataset):
    """Batches of one data directory by plan: reads, noises and turns into features. Indexed by (epoch, plan)."""

    def __init__(self, path: str, config: SpeechConfig, vocabulary: Vocabulary, stream: str) -> None:
        self.path, self.config = path, config
        self.stream = stream
        self.utterances = read_data_dir(path, allow_pipes=config.allow_pipes)
        counts = num_samples(path, self.utterances, config.features.rate)
        self.lengths = [counts[u.id] for u in self.utterances]
        self.ids = hash_ids([u.id for u in self.utterances])
        self.targets = [
            torch.tensor(vocabulary.encode(u.text or "", f"{path}/text: {u.id}") + [vocabulary.eos])
            for u in self.utterances
        ]
        self.eos = vocabulary.eos
        self.features = LogMel(config.features)
        self.noise: Noise | SpecAugment | None = None
        if config.objective.build().needs_noisy:
            f = config.features
            if config.noise.masks_features:
                self.noise = SpecAugment(f.mels, f.hop_ms / 1000 * f.stack)
            else:
                self.noise = config.noise.build(f.rate)
        self._planned: tuple[int, list[list[int]]] = (-1, [])

    def batches(self, epoch: int) -> list[list[int]]:
        if self._planned[0] != epoch:
            c = self.config
            short_first = c.short_first and epoch == 0
            batches = epoch_batches(self.ids, self.lengths, c.train.batch_size, c.seed, epoch, short_first)
            self._planned = (epoch, batches)
        return self._planned[1]

    def __getitem__(self, item: tuple[int, Plan]) -> Batch | UserError:
        try:
            return self.make(*item)
        except UserError as error:
            # From a worker an exception would come with its traceback; `SpeechTask.loader` raises it again.
            return error

    def make(self, epoch: int, plan: Plan) -> Batch:
        rows = self.batches(epoch)[plan.batch]
        chosen = [self.utterances[i] for i in rows]
        waves, lens = pad_waves([read_wave(u, self.config.features.rate) for u in chosen])
        y = pad_sequence([self.targets[i] for i in rows], batch_first=True, padding_value=-1)
        y_lens = torch.tensor([len(self.targets[i]) for i in rows])
        if plan.clean or isinstance(self.noise, SpecAugment):
            x, x_lens = self.features.batch(waves, lens)
        clean = self._inputs(x, x_lens, y, y_lens) if plan.clean else None
        noisy = []
        for copy in range(1, plan.noisy + 1):
            assert self.noise is not None
            keys = Keys(self.ids[rows], self.config.seed, self.stream, epoch, copy)
            if isinstance(self.noise, SpecAugment):
                features = self.noise.apply(x, x_lens, self.noise.draw(keys, x_lens)), x_lens
            else:
                params = self.noise.draw(keys, lens, [u.speaker for u in chosen])
                features = self.features.batch(self.noise.apply(waves, lens, params), lens)
            noisy.append(self._inputs(*features, y, y_lens))
        return Batch([u.id for u in chosen], clean, noisy, y, y_lens)

    def _inputs(self, x: Tensor, x_lens: Tensor, y: Tensor, y_lens: Tensor) -> dict[str, Tensor]:
        y_in = torch.cat([y.new_full((len(y), 1), self.eos), y[:, :-1]], dim=1).clamp(min=0)
        return {"x": x, "x_lens": x_lens, "y_in": y_in, "y_in_lens": y_lens}


def read_statistics(path: Path, features: FeatureConfig) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (dim,) from the sums that stage 3 wrote."""
    try:
        sums = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such feature statistics; run stage 3 first") from None
    except json.JSONDecodeError:
        raise UserError(f"{path}: damaged feature statistics; run stage 3 again") from None
    total, squares = (torch.tensor(sums[key], dtype=torch.float64) for key in ("sum", "sum_of_squares"))
    if len(total) != features.dim:
        raise UserError(f"{path}: statistics of {len(total)} features, expected {features.dim}; run stage 3 again")
    if sums.get("features") != asdict(features):
        raise UserError(f"{path}: statistics of other feature settings; run stage 3 again")
    mean = total / sums["frames"]
    return mean.float(), (squares / sums["frames"] - mean**2).clamp(min=1e-6).sqrt().float()


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches workers too; the loop still wants their batches to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class SpeechTask:
    """The task of the training loop (see `irl.tasks.base.Task`)."""

    def __init__(self, config: SpeechConfig) -> None:
        self.config = config
        self.vocabulary = Vocabulary.read(Path(config.vocabulary))
        self.train = SpeechData(config.train_dir, config, self.vocabulary, "noise/train")
        self.dev = SpeechData(config.dev_dir, config, self.vocabulary, "noise/dev")
        torch.manual_seed(config.seed)
        model = EncoderDecoder(config.features.dim, len(self.vocabulary), config.model)
        if config.features.normalise == "global":
            mean, std = read_statistics(Path(config.statistics), config.features)
            model.encoder.mean.copy_(mean)
            model.encoder.std.copy_(std)
        self.module = SpeechStep(model, config.ctc_weight)

    def batches_in(self, epoch: int) -> int:
        return len(self.train.batches(epoch))

    def loader(self, epoch: int, plans: list[Plan], workers: int) -> Iterator[Batch]:
        # The plans are the sampler, so that workers are told what to make and nothing depends on their number.
        batches = torch.utils.data.DataLoader(
            self.train,
            batch_size=None,
            sampler=[(epoch, plan) for plan in plans],  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_ignore_interrupts,
        )
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    @torch.no_grad()
    def evaluate(self) -> dict[str, Stat]:
        """On the dev set: loss and CTC greedy character errors, and, where training draws noise, the same on one
        fixed noisy copy, and for each layer the relative L2 and cosine distances between the two, the clean norm, and
        the effective rank of clean activations, which falls with the distances where representations collapse.
        """
        model, device = self.module.model, next(self.module.parameters()).device
        measure = IRLLoss(alpha=0, beta=0, gamma=1, distance=L2("relative") + Cosine())
        noisy = 1 if self.dev.noise is not None else 0
        stats: dict[str, Stat] = {}
        scatter: dict[str, Scatter] = {}

        def add(name: str, total: float, count: float) -> None:
            stats[name] = stats.get(name, Stat(0, 0)) + Stat(total, count)

        model.eval()
        # Epoch 1, not 0, which may be in order of length; always the same, and with it the noise.
        for index in range(len(self.dev.batches(1))):
            batch = move(self.dev.make(1, Plan(index, True, noisy)), device)
            assert batch.clean is not None
            views = [model(**inputs) for inputs in [batch.clean, *batch.noisy]]
            rows = len(batch.ids)
            for name, view in zip(("clean", "noisy"), views):
                tokens = float(batch.y_lens.sum())
                loss = task_loss(view, batch.y, batch.y_lens, self.config.ctc_weight)
                add(f"loss/{name}", tokens * float(loss), tokens)
                if "ctc" in view.extra:
                    for i, numbers in enumerate(greedy_ctc(view.extra["ctc"], view.lens["ctc"])):
                        reference = self.vocabulary.decode(batch.y[i, : batch.y_lens[i] - 1].tolist())
                        edits = count_edits(reference, self.vocabulary.decode(numbers))
                        add(f"cer_ctc/{name}", edits.errors, edits.reference)
            if noisy:
                for name, layers in measure.compare(views[0], views[1:])[2].items():
                    for layer, value in layers.items():
                        add(f"{name}/{layer}", rows * float(value), rows)
                for layer, value in layer_norms(views[0]).items():
                    add(f"norm/{layer}", rows * float(value), rows)
                for layer, frames in valid_frames(views[0]).items():
                    scatter.setdefault(layer, Scatter()).add(frames)
        for layer, found in scatter.items():
            add(f"rank/{layer}", found.effective_rank(), 1)
        model.train()
        return stats

    def extra_state(self) -> dict[str, Any]:
        return {"tokens": self.vocabulary.tokens}


def move(tree: Any, device: torch.device) -> Any:
    """A batch on a device."""
    from irl.fabric import move_data_to_device

    return move_data_to_device(tree, device)
