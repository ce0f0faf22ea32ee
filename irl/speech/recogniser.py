"""A trained speech model, loaded from a checkpoint, ready to recognise waveforms."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.errors import UserError
from irl.data.features import pad_waves
from irl.data.vocabulary import Vocabulary
from irl.models.encoder_decoder import EncoderDecoder
from irl.models.lstm_lm import LSTMLM
from irl.speech.beam_search import Hypothesis, beam_search, greedy_ctc
from irl.speech.character_lm import CharacterLMConfig
from irl.speech.config import SpeechConfig
from irl.speech.search_options import SearchOptions
from irl.training import checkpoint
from irl.training.checkpoint import load_model


class Encoded(NamedTuple):
    """The encoder's output x (N, T, E) with lens (N,), and CTC log probabilities (N, T, V) if there is a CTC layer."""

    x: Tensor
    lens: Tensor
    ctc: Tensor | None


class Recogniser:
    """Weights, configuration and vocabulary all come from the checkpoint; there are no architecture flags.

    lm: a checkpoint of task character_lm over the same tokens, for shallow fusion.
    """

    def __init__(self, path: Path, options: SearchOptions = SearchOptions(), lm: Path | None = None) -> None:
        state, self.config, weights = load_model(path, "speech", SpeechConfig)
        self.updates: int = state["step"]
        self.vocabulary = Vocabulary(state["tokens"])
        self.model = EncoderDecoder(self.config.features.dim, len(self.vocabulary), self.config.model)
        checkpoint.load_weights(self.model, weights, path)
        self.model.eval()
        self.features = self.config.features.build()
        self.options = options
        if self.model.ctc is None and (options.search == "ctc" or options.ctc_weight > 0):
            raise UserError(f"{path}: the model has no CTC layer; decode with --search attention")
        self.lm = None if lm is None else self._load_lm(lm)
        if options.lm_weight > 0 and self.lm is None:
            raise UserError("a positive LM weight needs a language model: --lm CHECKPOINT")

    def _load_lm(self, path: Path) -> LSTMLM:
        state, settings, weights = load_model(path, "character_lm", CharacterLMConfig)
        if state["tokens"] != self.vocabulary.tokens:
            raise UserError(f"{path}: expected a language model over the recogniser's tokens, found different tokens")
        if state["step"] < settings.train.updates:
            raise UserError(f"{path}: at update {state['step']} of {settings.train.updates}, train it to its end")
        lm = LSTMLM(len(self.vocabulary), settings.model)
        checkpoint.load_weights(lm, weights, path)
        return lm.eval()

    def __call__(self, waves: Sequence[np.ndarray]) -> list[list[Hypothesis]]:
        """Waveforms at the model's sampling rate -> for each its hypotheses, the best first."""
        return self.search(self.encode(waves), self.options)

    @torch.no_grad()
    def encode(self, waves: Sequence[np.ndarray]) -> Encoded:
        x, x_lens = self.features.batch(*pad_waves(list(waves)))
        encoded, _, lens = self.model.encoder.hidden_states(x, x_lens)
        ctc = self.model.ctc(encoded).log_softmax(-1) if self.model.ctc is not None else None
        return Encoded(encoded, lens[-1], ctc)

    @torch.no_grad()
    def search(self, encoded: Encoded, options: SearchOptions) -> list[list[Hypothesis]]:
        x, lens, ctc = encoded
        if options.search == "espnet":
            searcher = self.espnet(options)
            return [self._espnet(searcher, row[:n], options) for row, n in zip(x, lens.tolist())]
        if options.search == "ctc":
            assert ctc is not None
            sums = [float(row[:n].sum()) for row, n in zip(ctc.max(-1).values, lens.tolist())]
            return [[Hypothesis(path, s, {"ctc": s})] for path, s in zip(greedy_ctc(ctc, lens), sums)]
        return beam_search(self.model.decoder, x, lens, ctc, self.vocabulary.eos, options, self.lm)

    @staticmethod
    def _espnet(searcher: Any, x: Tensor, options: SearchOptions) -> list[Hypothesis]:
        """One utterance (T, E) through ESPnet's search and scorers."""
        found = searcher(x=x, maxlenratio=options.max_length, minlenratio=options.min_length)
        return [
            Hypothesis(h.yseq[1:-1].tolist(), float(h.score), {k: float(v) for k, v in h.scores.items()})
            for h in found[: options.nbest]
        ]

    def espnet(self, options: SearchOptions) -> Any:
        """ESPnet's BatchBeamSearch over this model."""
        search = importlib.import_module("espnet.nets.batch_beam_search").BatchBeamSearch
        bonus = importlib.import_module("espnet.nets.scorers.length_bonus").LengthBonus
        prefix = importlib.import_module("espnet.nets.scorers.ctc").CTCPrefixScorer
        # Scorers of weight 0 are left out by ESPnet.
        scorers = {
            "decoder": self.model.decoder,
            "length_bonus": bonus(len(self.vocabulary)),
            "ctc": prefix(ctc=self.model.ctc, eos=self.vocabulary.eos),
            "lm": self.lm,
        }
        weights = {
            "decoder": 1 - options.ctc_weight,
            "length_bonus": options.length_bonus,
            "ctc": options.ctc_weight,
            "lm": options.lm_weight,
        }
        return search(
            beam_size=options.beam,
            weights=weights,
            scorers=scorers,
            sos=self.vocabulary.eos,
            eos=self.vocabulary.eos,
            vocab_size=len(self.vocabulary),
            token_list=self.vocabulary.tokens,
            pre_beam_ratio=options.pre_beam_ratio,
            pre_beam_score_key="full",
            normalize_length=options.normalise_length,
        )

    def text(self, hypothesis: Hypothesis) -> str:
        return self.vocabulary.decode(hypothesis.tokens)
