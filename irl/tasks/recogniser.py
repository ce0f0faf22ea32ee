"""A trained speech model as it comes out of a checkpoint, ready to recognise waveforms."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from irl import checkpoint, config
from irl.data.features import LogMel, pad_waves
from irl.data.vocabulary import Vocabulary
from irl.errors import UserError
from irl.models.encoder_decoder import EncoderDecoder
from irl.tasks.beam_search import Hypothesis, SearchOptions, beam_search, greedy_ctc
from irl.tasks.speech import SpeechConfig

SEARCHES = ("joint", "attention", "ctc", "espnet")


class Recogniser:
    """Weights, configuration and vocabulary all come from the checkpoint; there are no architecture flags.

    search: "joint" beam search, "attention" (the same without CTC), "ctc" (greedy), or "espnet": ESPnet's own
    BatchBeamSearch over this model, one utterance at a time.
    """

    def __init__(self, path: Path, search: str = "joint", options: SearchOptions = SearchOptions()) -> None:
        state = checkpoint.load(path)
        if state["config"].get("task") != "speech":
            raise UserError(f"{path}: a checkpoint of task {state['config'].get('task')!r}, expected 'speech'")
        if search not in SEARCHES:
            raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {search!r}")
        self.config = config.from_dict(SpeechConfig, state["config"], str(path))
        self.state: dict[str, Any] = {key: state[key] for key in ("step", "seconds", "skipped", "commit", "versions")}
        self.vocabulary = Vocabulary(state["tokens"])
        self.model = EncoderDecoder(self.config.features.dim, len(self.vocabulary), self.config.model)
        weights = {name.removeprefix("model."): value for name, value in state["model"].items()}
        checkpoint.load_weights(self.model, weights, path)
        self.model.eval()
        self.features = LogMel(self.config.features)
        self.search, self.options = search, options
        if self.model.ctc is None and (search == "ctc" or (search != "attention" and options.ctc_weight > 0)):
            raise UserError(f"{path}: the model has no CTC layer; decode with --search attention")

    @torch.no_grad()
    def __call__(self, waves: Sequence[np.ndarray]) -> list[list[Hypothesis]]:
        """Waveforms at the model's sampling rate -> for each its hypotheses, the best first."""
        x, x_lens = self.features.batch(*pad_waves(list(waves)))
        encoded, _, lens = self.model.encoder.hidden_states(x, x_lens)
        if self.search == "espnet":
            return [self._espnet(e[:n]) for e, n in zip(encoded, lens[-1].tolist())]
        ctc = self.model.ctc(encoded).log_softmax(-1) if self.model.ctc is not None else None
        if self.search == "ctc":
            assert ctc is not None
            paths = greedy_ctc(ctc, lens[-1])
            best = ctc.max(-1).values
            return [[Hypothesis(p, s, {"ctc": s})] for p, s in zip(paths, _sums(best, lens[-1]))]
        options = self.options
        if self.search == "attention":
            options = SearchOptions(options.beam, 0.0, options.length_bonus, options.pre_beam_ratio, options.nbest)
            ctc = None
        return beam_search(self.model.decoder, encoded, lens[-1], ctc, self.vocabulary.eos, options)

    def _espnet(self, encoded: Tensor) -> list[Hypothesis]:
        """One utterance (T, E) through ESPnet's search and scorers."""
        if not hasattr(self, "_searcher"):
            self._searcher = self._build_espnet()
        hypotheses = self._searcher(x=encoded)
        return [
            Hypothesis(h.yseq[1:-1].tolist(), float(h.score), {k: float(v) for k, v in h.scores.items()})
            for h in hypotheses[: self.options.nbest]
        ]

    def _build_espnet(self) -> Any:
        search = importlib.import_module("espnet.nets.batch_beam_search").BatchBeamSearch
        scorers: dict[str, Any] = {
            "decoder": self.model.decoder,
            "length_bonus": importlib.import_module("espnet.nets.scorers.length_bonus").LengthBonus(
                len(self.vocabulary)
            ),
        }
        o = self.options
        weights = {"decoder": 1 - o.ctc_weight, "length_bonus": o.length_bonus}
        if o.ctc_weight > 0:
            prefix = importlib.import_module("espnet.nets.scorers.ctc").CTCPrefixScorer
            scorers["ctc"] = prefix(ctc=self.model.ctc, eos=self.vocabulary.eos)
            weights["ctc"] = o.ctc_weight
        return search(
            beam_size=o.beam,
            weights=weights,
            scorers=scorers,
            sos=self.vocabulary.eos,
            eos=self.vocabulary.eos,
            vocab_size=len(self.vocabulary),
            token_list=self.vocabulary.tokens,
            pre_beam_ratio=o.pre_beam_ratio,
            pre_beam_score_key="full",
        )

    def text(self, hypothesis: Hypothesis) -> str:
        return self.vocabulary.decode(hypothesis.tokens)


def _sums(values: Tensor, lens: Tensor) -> list[float]:
    return [float(row[:n].sum()) for row, n in zip(values, lens.tolist())]
