"""IRL in ESPnet2's ASR task: its trainer, configuration, data directories, preprocessor and models stay as they are.

    python -m irl.integrations.espnet --config conf/train_asr_conformer.yaml ...

takes everything that `python -m espnet2.bin.asr_train` takes, and one key more in the configuration:

    irl_conf:                   # settings of IRLLoss, as in the recipes of this package
        alpha: 0.5
        beta: 0.5
        gamma: 1.0
        layers: {encoder.encoders.11: 1.0}
    noise_scp: data/noise.scp   # ESPnet's own: rir_scp, noise_scp, data_aug_effects, with their settings
    noise_db_range: "0_15"

The clean view of an utterance is what ESPnet's preprocessor makes of it without augmentation, the noisy copies are what
it makes with it, from numpy's global random numbers and from files as they are: noises and rooms must have the rate of
the speech. The trained model is an ESPnetASRModel with the same weights: espnet2.bin.asr_inference reads it.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import Any, Callable, Mapping

import numpy as np
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.tasks.asr import ASRTask, model_choices
from espnet2.utils.nested_dict_action import NestedDictAction
from torch import Tensor

from irl.core.config import from_dict
from irl.core.errors import UserError
from irl.integrations.steps import scalars
from irl.models.tap import tap
from irl.training.config import ObjectiveConfig

NOISY = "noisy_speech"
# The terms by their names in ESPnet's statistics.
LOGGED = {"irl/total": "loss", "irl/clean": "loss_clean", "irl/noisy": "loss_noisy", "irl/dist": "irl_dist"}
IRL_LOSS = {"alpha": 0.5, "beta": 0.5, "gamma": 1.0, "layers": {"encoder": 1.0}}
Data = dict[str, Any]


def objective(conf: Mapping[str, Any]) -> ObjectiveConfig:
    """The settings under irl_conf; what they leave open is the IRL loss of the encoder's output."""
    return from_dict(ObjectiveConfig, {**IRL_LOSS, **conf}, "irl_conf")


class PairedPreprocessor:
    """Adds noisy_speech1, ... to what a preprocessor makes of an utterance. plain, augment: the same preprocessor
    without and with its augmentation."""

    def __init__(self, plain: Callable[[str, Data], Data], augment: Callable[[str, Data], Data], copies: int) -> None:
        self.plain, self.augment, self.copies = plain, augment, copies

    def __call__(self, uid: str, data: Data) -> Data:
        # They write into what they get.
        noisy = [self.augment(uid, dict(data))["speech"] for _ in range(self.copies)]
        clean = self.plain(uid, dict(data))
        if any(len(x) != len(clean["speech"]) for x in noisy):
            raise UserError(f"{uid}: a noisy copy of another length: leave out effects that change the tempo")
        return {**clean, **{f"{NOISY}{k}": x.astype(np.float32) for k, x in enumerate(noisy, 1)}}


class IRLESPnetASRModel(ESPnetASRModel):
    """ESPnetASRModel whose loss, where a batch has noisy copies, is the IRL loss of its own: one pass for each view,
    with the same draws of dropout and SpecAugment.

    Layers are the model's modules by name: "encoder", "encoder.encoders.5", "decoder", "ctc.ctc_lo". Those of the
    decoder are as long as the text and its end, all others as long as the encoder's output. In the statistics of a
    step "loss" is the total. loss_clean, loss_noisy and irl_dist stand beside it where they are computed. All others
    are those of the first view.
    """

    def __init__(self, irl_conf: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        config = objective(irl_conf)
        self._irl_loss = replace(config.build(), passes="separate")
        self._irl_steps = 0
        # Not a module of this module: it holds this one.
        layers = list(config.layers or {config.from_layer or "encoder": 1.0})
        self.__dict__["_irl_tapped"] = tap(self, layers, select=_first_tensor, lens=self._lens, missing="skip")

    def encode(self, speech: Tensor, speech_lengths: Tensor) -> Any:
        encoded, lens = super().encode(speech, speech_lengths)
        self._encoder_lens = lens
        return encoded, lens

    def _lens(self, inputs: Mapping[str | int, Any], output: Any) -> dict[str, Tensor]:
        text = inputs["text_lengths"] + 1
        layers = self._irl_loss.layers or ()
        return {name: text if name.startswith("decoder") else self._encoder_lens for name in layers}

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any], Tensor]:
        """speech (N, T) or (N, T, F), noisy_speech1, ... of the same shape -> (loss, statistics, weight)."""
        names = [n for n in kwargs if n.startswith(NOISY) and not n.endswith("_lengths")]
        noisy = [kwargs.pop(name) for name in names]
        for name in names:
            kwargs.pop(f"{name}_lengths", None)
        own = {"speech_lengths": speech_lengths, "text": text, "text_lengths": text_lengths, **kwargs}
        if not noisy:
            return super().forward(speech=speech, **own)
        returned: list[Any] = []

        def loss_of(view: Any) -> Tensor:
            returned.append(view.logits)
            return view.logits[0]

        views = [{"speech": x, **own} for x in (speech, *noisy)]
        terms = self._irl_loss(self._irl_tapped, views[0], views[1:], loss_of, step=self._irl_steps)
        self._irl_steps += self.training
        _, stats, weight = returned[0]
        computed = {LOGGED[name]: x for name, x in scalars(terms, self._irl_loss).items() if name in LOGGED}
        return terms.total, {**stats, **computed}, weight


def _first_tensor(output: Any) -> Any:
    """ESPnet's layers return the states first, and beside them masks, lengths or position embeddings."""
    while isinstance(output, (tuple, list)):
        output = output[0]
    return output


model_choices.classes["irl"] = IRLESPnetASRModel


class IRLTask(ASRTask):
    """ESPnet2's ASRTask with the key irl_conf."""

    @classmethod
    def add_task_arguments(cls, parser: Any) -> None:
        super().add_task_arguments(parser)
        parser.add_argument("--irl_conf", action=NestedDictAction, default={}, help="Settings of the IRL loss")

    @classmethod
    def build_preprocess_fn(cls, args: Namespace, train: bool) -> Any:
        plain = super().build_preprocess_fn(args, False)
        if not train:
            return plain
        augmented = args.rir_scp or args.noise_scp or (args.preprocessor_conf or {}).get("data_aug_effects")
        if plain is None or not augmented:
            raise UserError(
                "irl_conf: no noisy copies: give noise_scp, rir_scp or preprocessor_conf's data_aug_effects"
            )
        return PairedPreprocessor(plain, super().build_preprocess_fn(args, True), objective(args.irl_conf).copies)

    @classmethod
    def build_model(cls, args: Namespace) -> ESPnetASRModel:
        """The saved configuration keeps model: espnet, so that ESPnet itself reads what was trained."""
        if args.model != "espnet":
            raise UserError(f"model: expected espnet, found {args.model}")
        settings = {"model": "irl", "model_conf": {**args.model_conf, "irl_conf": args.irl_conf}}
        own = Namespace(**{**vars(args), **settings})
        model = super().build_model(own)
        args.token_list = own.token_list
        return model


def main() -> None:
    """The command, with ESPnet's own options."""
    IRLTask.main()


if __name__ == "__main__":
    # Under its own name, which processes that ESPnet spawns can import.
    from irl.integrations import espnet

    espnet.main()
