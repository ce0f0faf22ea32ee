"""Joint attention/CTC beam search over many utterances at once; token numbers in, token numbers out.

It is the search of ESPnet's BatchBeamSearch with a decoder, a CTC prefix scorer, a language model and a length bonus
(Watanabe et al., "Hybrid CTC/attention architecture", 2017); the tests compare the two. The score of a hypothesis is

    (1 - w) log p_attention + w log p_ctc(prefix) + v log p_lm + bonus * length.

CTC scores only the tokens that are best by the other parts (the pre-beam). The search of an utterance ends when its
hypotheses that ended lately are hopeless.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from irl.models.encoder_decoder import Decoder
from irl.models.lstm_lm import LSTMLM
from irl.speech.scorers import BLANK, CTCScorer, DecoderScorer, EarlyEnd, LengthBonus, LMScorer, Scorer
from irl.speech.search_options import SearchOptions

# A search ends when the best hypotheses of each of the last three lengths are this far below the best of all.
END_LENGTHS, END_GAP = 3, 10.0
# The cost of ending before the least length.
TOO_SHORT = 1e6
# The parts of a score that a hypothesis reports, in this order.
REPORTED = ("decoder", "lm", "length_bonus", "ctc")


class Hypothesis(NamedTuple):
    """Tokens without sos and eos, the total score, and its unweighted parts by name."""

    tokens: list[int]
    score: float
    scores: dict[str, float]


def greedy_ctc(logits: Tensor, lens: Tensor) -> list[list[int]]:
    """The best path (B, T, V) with repeats merged and blanks removed."""
    paths = logits.argmax(-1)
    return [
        [token for token in torch.unique_consecutive(path[:n]).tolist() if token != BLANK]
        for path, n in zip(paths, lens.tolist())
    ]


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    encoded: Tensor,
    lens: Tensor,
    ctc_log_probs: Tensor | None,
    eos: int,
    options: SearchOptions,
    lm: LSTMLM | None = None,
) -> list[list[Hypothesis]]:
    """The best hypotheses of each utterance, the best first.

    encoded: the encoder's output (N, T, E) with lens (N,). ctc_log_probs (N, T, V): needed if ctc_weight > 0. lm: a
    language model over the same tokens, needed if lm_weight > 0. ValueError if one of the two is needed and missing.
    """
    beam = Beam(lens, eos, options)
    scorers: list[tuple[float, Scorer]] = [
        (1 - options.ctc_weight, DecoderScorer(decoder, encoded, lens)),
        (options.length_bonus, LengthBonus()),
    ]
    if options.lm_weight > 0:
        if lm is None:
            raise ValueError("lm_weight is positive, but there is no language model")
        scorers.append((options.lm_weight, LMScorer(lm, len(lens), encoded.device)))
    if options.min_length:
        scorers.append((-TOO_SHORT, EarlyEnd(beam.shortest, eos)))
    if options.ctc_weight > 0:
        if ctc_log_probs is None:
            raise ValueError("ctc_weight is positive, but the model has no CTC layer: set it to 0")
        candidates = int(options.pre_beam_ratio * options.beam)
        # CTC comes last: its candidates are the best tokens of all other parts together.
        scorers.append((options.ctc_weight, CTCScorer(ctc_log_probs, lens, eos, candidates)))

    while len(beam.owner):
        gains = encoded.new_zeros((), dtype=torch.float64)
        for weight, scorer in scorers:
            gains = gains + weight * scorer.score(beam.tokens[:, -1], beam.owner, gains)
        extensions = beam.select(gains)
        going = beam.finish(extensions, [scorer for _, scorer in scorers])
        for _, scorer in scorers:
            scorer.advance(going.parents, going.tokens, going.owner)
        beam.advance(going)
    return beam.nbest()


class Extensions(NamedTuple):
    """S hypotheses that are each a running one, row `parents`, with one more token. score: the total with that token.
    owner: the utterance. All (S,)."""

    parents: Tensor
    tokens: Tensor
    score: Tensor
    owner: Tensor

    def rows(self, index: Tensor) -> Extensions:
        return Extensions(*(x[index] for x in self))


class Beam:
    """The running hypotheses of N utterances, and the ones that ended.

    owner (R,): the utterance of each running hypothesis; rows of an utterance are neighbours, utterances are in order.
    tokens (R, L): from sos on. score (R,): the total so far. shortest, longest (N,): how many tokens a hypothesis must
    have before it ends, and may have at most.
    """

    def __init__(self, lens: Tensor, eos: int, options: SearchOptions) -> None:
        self.options, self.eos, self.step = options, eos, 0
        self.owner = torch.arange(len(lens), device=lens.device)
        self.tokens = self.owner.new_full((len(lens), 1), eos)
        self.score = torch.zeros(len(lens), dtype=torch.float64, device=lens.device)
        self.longest = lens if not options.max_length else (options.max_length * lens).long().clamp(min=1)
        self.shortest = torch.minimum((options.min_length * lens).long(), self.longest - 1)
        self.ended = [_Ended() for _ in range(len(lens))]

    def select(self, gains: Tensor) -> Extensions:
        """The best `options.beam` extensions of each utterance, over its rows together. gains (R, V): what each token
        adds to each row."""
        total = self.score[:, None] + gains
        # Each utterance's rows go to a line of its own, as utterances differ in their number of rows.
        utterances, inverse, counts = torch.unique_consecutive(self.owner, return_inverse=True, return_counts=True)
        first = counts.cumsum(0) - counts
        place = torch.arange(len(self.owner), device=total.device) - first[inverse]
        grid = total.new_full((len(utterances), int(counts.max()), total.shape[1]), -math.inf)
        grid[inverse, place] = total
        values, flat = grid.flatten(1).topk(min(self.options.beam, grid[0].numel()))
        line = torch.arange(len(utterances), device=total.device)[:, None].expand_as(flat)
        keep = values > -math.inf
        parents = (first[line] + torch.div(flat, total.shape[1], rounding_mode="floor"))[keep]
        return Extensions(parents, (flat % total.shape[1])[keep], values[keep], self.owner[parents])

    def finish(self, extensions: Extensions, scorers: Sequence[Scorer]) -> Extensions:
        """Record the extensions that end, by eos or at the longest length. Returns the ones that go on: the rest, but
        for utterances whose search is over."""
        at_limit = self.step + 1 >= self.longest[extensions.owner]
        ends = (extensions.tokens == self.eos) | at_limit
        ending = ends.nonzero()[:, 0]
        if len(ending):
            self._record(extensions.rows(ending), at_limit[ending], scorers)
        if self.options.max_length == 0:
            over = torch.tensor([ended.hopeless(self.step) for ended in self.ended], device=ends.device)
            ends = ends | over[extensions.owner]
        return extensions.rows((~ends).nonzero()[:, 0])

    def _record(self, ending: Extensions, at_limit: Tensor, scorers: Sequence[Scorer]) -> None:
        by_name = {scorer.name: scorer for scorer in scorers}
        names = [name for name in REPORTED if name in by_name]
        parts = [by_name[name].total(ending.parents, ending.tokens).tolist() for name in names]
        sequences = torch.cat([self.tokens[ending.parents], ending.tokens[:, None]], dim=1)[:, 1:].tolist()
        rows = zip(sequences, ending.score.tolist(), ending.owner.tolist(), at_limit.tolist(), zip(*parts))
        for sequence, score, owner, limit, values in rows:
            tokens = [token for token in sequence if token != self.eos]
            # At the limit a hypothesis is given an eos without a score, and is longer by it, as in ESPnet.
            length = self.step + 2 + int(limit)
            self.ended[owner].add(length, Hypothesis(tokens, score, dict(zip(names, values))))

    def advance(self, going: Extensions) -> None:
        """Make these the running hypotheses."""
        self.tokens = torch.cat([self.tokens[going.parents], going.tokens[:, None]], dim=1)
        self.score, self.owner = going.score, going.owner
        self.step += 1

    def nbest(self) -> list[list[Hypothesis]]:
        """Of each utterance the best `options.nbest` hypotheses that ended, the best first."""
        pairs = zip(self.ended, self.shortest.tolist())
        return [ended.best(shortest, self.options) for ended, shortest in pairs]


class _Ended:
    """The hypotheses of one utterance that ended, with their lengths; lengths count sos and eos."""

    def __init__(self) -> None:
        self.hypotheses: list[tuple[int, Hypothesis]] = []
        self.best_of_length: dict[int, float] = {}

    def add(self, length: int, hypothesis: Hypothesis) -> None:
        self.hypotheses.append((length, hypothesis))
        self.best_of_length[length] = max(hypothesis.score, self.best_of_length.get(length, -math.inf))

    def hopeless(self, length: int) -> bool:
        """Whether the best hypotheses of this length and of the two below are all far below the best of all.

        Step i passes i where its own hypotheses have length i + 2, as ESPnet does.
        """
        best = self.best_of_length
        lately = range(length, length - END_LENGTHS, -1)
        return all(n in best for n in lately) and max(best[n] for n in lately) - max(best.values()) < -END_GAP

    def best(self, shortest: int, options: SearchOptions) -> list[Hypothesis]:
        """The best of those with `shortest` tokens or more, or of all if there are none."""

        def rank(pair: tuple[int, Hypothesis]) -> float:
            length, hypothesis = pair
            # The length counts sos, which has no score.
            return -hypothesis.score / (length - 1) if options.normalise_length else -hypothesis.score

        long_enough = [pair for pair in self.hypotheses if len(pair[1].tokens) >= shortest]
        ranked = sorted(long_enough or self.hypotheses, key=rank)
        return [hypothesis for _, hypothesis in ranked[: options.nbest]]
