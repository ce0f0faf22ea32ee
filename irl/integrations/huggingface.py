"""IRL in the Trainer of Hugging Face's transformers, with any model that takes labels.

    from irl.integrations.huggingface import IRLTrainer
    from irl.noise import additive, collate_pairs, paired

    trainer = IRLTrainer(
        model=Wav2Vec2ForCTC.from_pretrained(...), args=TrainingArguments(...),
        train_dataset=paired(dataset, additive("noises/", rate=16000), key="input_values"),
        data_collator=functools.partial(collate_pairs, collate=my_collator),
        layers=["wav2vec2.encoder.layers.5"], irl_loss=IRLLoss(gamma=0.5),
    )
    trainer.train()
    trainer.save_model("here")      # the model as it was: Wav2Vec2ForCTC.from_pretrained("here")

Other trainers: class MyTrainer(IRLMixin, Seq2SeqTrainer). Loops of accelerate need nothing of this: call IRLLoss on
accelerator.prepare(tap(model, [...])).
"""

from __future__ import annotations

from typing import Any, Sequence

from transformers import Trainer

from irl.data.pairs import is_pair
from irl.integrations.steps import IRLSteps, scalars
from irl.objective import IRLLoss


class IRLMixin:
    """The loss of a Trainer becomes the IRL loss of its own loss, with one pass for each view, with the same draws.

    layers: names as in model.named_modules(). irl_loss: its settings. tap_settings: lens(batch, output), select, and
    noise, key, ... as of `irl.integrations.steps.IRLSteps`. A training batch is (clean, [noisy, ...]), as
    `irl.noise.collate_pairs` makes it, or what the model takes if a noise is given. In evaluation the clean view of a
    pair is taken, with the Trainer's own loss. Terms are logged as irl/clean, irl/noisy, irl/dist, irl/dist/LAYER, the
    mean over the steps between two logs. KL and other distances of "logits" look at the model's output.logits.
    With rows of `irl.integrations.datasets` set remove_unused_columns=False.
    """

    def __init__(
        self,
        *args: Any,
        layers: Sequence[str],
        irl_loss: IRLLoss | None = None,
        tap_settings: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.irl_steps = IRLSteps(layers, irl_loss, **(tap_settings or {}))
        self.irl_logs: list[dict[str, Any]] = []

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        own = super().compute_loss  # type: ignore[misc]
        if not model.training:
            return own(model, _clean(inputs), return_outputs, num_items_in_batch=num_items_in_batch)
        if self.irl_steps.tapped is None:
            self.irl_steps.attach(self.accelerator.unwrap_model(model), lambda batch: None)
        self.irl_steps.tapped.model.step = lambda batch: own(model, batch, True, num_items_in_batch=num_items_in_batch)
        terms, (outputs, *_) = self.irl_steps(inputs, int(self.state.epoch or 0), self.state.global_step)
        self.irl_logs.append(scalars(terms, self.irl_steps.irl_loss))
        return (terms.total, outputs) if return_outputs else terms.total

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)  # type: ignore[misc]
        finally:
            self.irl_steps.detach()

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self.irl_logs:
            for name in dict.fromkeys(name for terms in self.irl_logs for name in terms):
                values = [terms[name] for terms in self.irl_logs if name in terms]
                logs[name] = float(sum(values)) / len(values)
            self.irl_logs.clear()
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().prediction_step(model, _clean(inputs), *args, **kwargs)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> int:
        count: int = super().floating_point_ops(_clean(inputs))  # type: ignore[misc]
        return count * (1 + len(inputs[1]) if is_pair(inputs) else 1)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        return super()._get_num_items_in_batch([_clean(x) for x in batch_samples], device)  # type: ignore[misc]


def _clean(inputs: Any) -> Any:
    return inputs[0] if is_pair(inputs) else inputs


class IRLTrainer(IRLMixin, Trainer):
    """transformers.Trainer with the IRL loss; see `IRLMixin`."""
