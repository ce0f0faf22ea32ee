"""Joint attention/CTC beam search over many utterances at once; token numbers in, token numbers out.

The same search as ESPnet's BatchBeamSearch with a decoder, a CTC prefix scorer, a language model and a length bonus
(Watanabe et al., "Hybrid CTC/attention architecture", 2017), which is the reference of its tests: the beam's score is

    (1 - w) log p_attention + w log p_ctc(prefix) + v log p_lm + bonus * length,

CTC scores only the tokens that are best by the others (the pre-beam), and a search ends when the hypotheses that ended
lately are hopeless. The CTC recursion over frames is a linear recurrence, so with P_t the sum of log p_u(c) up to frame
t it is one logcumsumexp, r_t = P_t + logsumexp_{s <= t}(phi_{s-1} - P_{s-1}), instead of a loop over frames.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from irl.core.output import lens_to_mask
from irl.models.encoder_decoder import Decoder
from irl.models.lstm_lm import LSTMLM
from irl.speech.search_options import SearchOptions

BLANK = 0
# A search ends when the best hypotheses of the last three lengths are this far below the best of all.
END_LENGTHS, END_GAP = 3, 10.0
# What ending before the least length costs.
TOO_SHORT = 1e6


class Hypothesis(NamedTuple):
    """Tokens without sos and eos, the total score, and its parts by name before their weights."""

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


class PrefixScorer:
    """CTC prefix probabilities of rows of hypotheses; row i belongs to utterance owner[i].

    Arrays over time have T + 1 entries, the first being "before any frame". r_n and r_b (R, T + 1): log probability of
    the frames so far and the prefix, ending in its last token or in blank. psi (R,): log probability of the prefix
    followed by anything.
    """

    def __init__(self, log_probs: Tensor, lens: Tensor) -> None:
        self.log_probs = log_probs.double()
        self.lens = lens
        self.valid = lens_to_mask(lens, log_probs.shape[1])
        blank = self.log_probs[..., BLANK].cumsum(1)
        self.blank = torch.nn.functional.pad(blank, (1, 0))
        self.r_b = self.blank
        self.r_n = torch.full_like(self.r_b, -math.inf)
        self.psi = self.r_b.new_zeros(len(lens))

    def score(self, last: Tensor, tokens: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """psi of each row extended by each of tokens (R, C) -> (R, C), and of each row ended (R,)."""
        both = torch.logaddexp(self.r_n, self.r_b)
        # After the same token only a path through blank is a new token.
        same = (tokens == last[:, None])[:, None]
        self._phi = torch.where(same, self.r_b[:, :-1, None], both[:, :-1, None])
        chosen = self.log_probs[owner].gather(2, tokens[:, None].expand(-1, self.log_probs.shape[1], -1))
        self._chosen = chosen
        psi = torch.logsumexp((self._phi + chosen).masked_fill(~self.valid[owner][..., None], -math.inf), dim=1)
        end = both.gather(1, self.lens[owner][:, None])[:, 0]
        return psi, end

    def advance(self, rows: Tensor, columns: Tensor, psi: Tensor, owner: Tensor) -> None:
        """Go over to `rows` of the last `score`, each extended by its token in that column."""
        total = self._chosen[rows, :, columns].cumsum(1)
        before = torch.nn.functional.pad(total, (1, 0))[:, :-1]
        r_n = total + torch.logcumsumexp(self._phi[rows, :, columns] - before, dim=1)
        self.r_n = torch.nn.functional.pad(r_n, (1, 0), value=-math.inf)
        blank = self.blank[owner]
        r_b = blank[:, 1:] + torch.logcumsumexp(self.r_n[:, :-1] - blank[:, :-1], dim=1)
        self.r_b = torch.nn.functional.pad(r_b, (1, 0), value=-math.inf)
        self.psi = psi


class _Ended:
    """The hypotheses of one utterance that ended, and whether to go on."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Hypothesis]] = []

    def add(self, length: int, tokens: list[int], score: float, scores: dict[str, float]) -> None:
        self.found.append((length, Hypothesis(tokens, score, scores)))

    def hopeless(self, length: int) -> bool:
        """Whether the best hypotheses of this length and the two below are all far below the best of all. Lengths
        count sos and eos, and step i passes i where its own hypotheses have length i + 2, as ESPnet does.
        """
        if not self.found:
            return False
        best = max(hypothesis.score for _, hypothesis in self.found)
        for wanted in range(length, length - END_LENGTHS, -1):
            scores = [hypothesis.score for n, hypothesis in self.found if n == wanted]
            if not scores or max(scores) - best >= -END_GAP:
                return False
        return True


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

    encoded: the encoder's output (N, T, E) with lens (N,); ctc_log_probs (N, T, V), needed if ctc_weight > 0; lm: a
    language model over the same tokens, needed if lm_weight > 0.
    """
    weight = options.ctc_weight
    if weight > 0 and ctc_log_probs is None:
        raise ValueError("ctc_weight is positive, but the model has no CTC layer: set it to 0")
    if options.lm_weight > 0 and lm is None:
        raise ValueError("lm_weight is positive, but there is no language model")
    count = len(lens)
    ended = [_Ended() for _ in range(count)]
    memory = decoder.memory(encoded, lens)
    state = decoder.first_state(memory)
    ctc = PrefixScorer(ctc_log_probs, lens) if weight > 0 and ctc_log_probs is not None else None
    # One row a running hypothesis; owner: its utterance. Rows of an utterance are neighbours.
    owner = torch.arange(count, device=encoded.device)
    rows_memory = memory
    tokens = owner.new_full((count, 1), eos)
    score = encoded.new_zeros(count, dtype=torch.float64)
    # What each row's scores are made of so far, by name.
    parts = {"decoder": score.clone()}
    lm_state = None
    if lm is not None and options.lm_weight > 0:
        lm_state, parts["lm"] = lm.first_state(count), score.clone()
    # Tokens that a hypothesis may have at most, and those that it must have before it ends.
    longest = lens if not options.max_length else (options.max_length * lens).long().clamp(min=1)
    shortest = torch.minimum((options.min_length * lens).long(), longest - 1)
    step = 0
    while len(owner):
        log_probs, state = decoder.step(tokens[:, -1], state, rows_memory)
        log_probs = log_probs.double()
        full = (1 - weight) * log_probs + options.length_bonus
        each = {"decoder": log_probs}
        if lm_state is not None:
            lm_log_probs, lm_state = lm.step(tokens[:, -1], lm_state)  # type: ignore[union-attr]
            each["lm"] = lm_log_probs.double()
            full = full + options.lm_weight * each["lm"]
        if options.min_length:
            # Not minus infinity: where CTC leaves nothing else possible, an utterance still has a hypothesis.
            full[:, eos] -= TOO_SHORT * (step < shortest[owner])
        vocabulary = full.shape[1]
        if ctc is not None:
            size = min(int(options.pre_beam_ratio * options.beam), vocabulary)
            candidates = full.topk(size).indices
            psi, end = ctc.score(tokens[:, -1] if step else tokens.new_full((len(owner),), -1), candidates, owner)
            partial = torch.full_like(full, -math.inf).scatter(1, candidates, weight * (psi - ctc.psi[:, None]))
            partial[:, BLANK] = -math.inf
            partial[:, eos] = weight * (end - ctc.psi)
            full = full + partial
        total = score[:, None] + full
        # The best `beam` extensions of each utterance, over its rows together.
        parents, chosen = _best_extensions(total, owner, options.beam)
        last = step + 1 >= longest[owner[parents]]
        new_tokens = torch.cat([tokens[parents], chosen[:, None]], dim=1)
        new_score = total[parents, chosen]
        parts = {name: value[parents] + each[name][parents, chosen] for name, value in parts.items()}
        is_eos = chosen == eos
        columns = None
        if ctc is not None:
            hits = candidates[parents] == chosen[:, None]
            columns = hits.int().argmax(1)
            new_psi = torch.where(is_eos, end[parents], psi[parents, columns])
        for i in (is_eos | last).nonzero()[:, 0].tolist():
            scores = {**{name: float(value[i]) for name, value in parts.items()}, "length_bonus": float(step + 1)}
            if ctc is not None:
                scores["ctc"] = float(new_psi[i])
            sequence = [t for t in new_tokens[i, 1:].tolist() if t != eos]
            # At the limit every hypothesis is given an eos without a score, and is longer by it, as in ESPnet.
            length = step + 2 + int(last[i])
            ended[int(owner[parents[i]])].add(length, sequence, float(new_score[i]), scores)
        early = options.max_length == 0
        done = torch.tensor([early and e.hopeless(step) for e in ended], device=owner.device)
        step += 1
        going = (~is_eos & ~last & ~done[owner[parents]]).nonzero()[:, 0]
        new_owner = owner[parents[going]]
        if ctc is not None:
            assert columns is not None
            ctc.advance(parents[going], columns[going], new_psi[going], new_owner)
        if len(new_owner) != len(owner) or not torch.equal(new_owner, owner):
            rows_memory = memory.rows(new_owner)
        state = state.rows(parents[going])
        if lm_state is not None:
            lm_state = lm_state.rows(parents[going])
        parts = {name: value[going] for name, value in parts.items()}
        tokens, score, owner = new_tokens[going], new_score[going], new_owner

    def rank(found: tuple[int, Hypothesis]) -> float:
        # The length counts sos, which has no score.
        length, hypothesis = found
        return -hypothesis.score / (length - 1) if options.normalise_length else -hypothesis.score

    nbest = []
    for e, least in zip(ended, shortest.tolist()):
        long_enough = [found for found in e.found if len(found[1].tokens) >= least]
        nbest.append([h for _, h in sorted(long_enough or e.found, key=rank)[: options.nbest]])
    return nbest


def _best_extensions(total: Tensor, owner: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Rows and tokens of the `beam` largest entries of each utterance, utterances in order. total: (R, V)."""
    # Scatter each utterance's rows into a line of its own, as rows of an utterance differ in number.
    utterances, inverse, counts = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(owner), device=owner.device) - first[inverse]
    grid = total.new_full((len(utterances), int(counts.max()), total.shape[1]), -math.inf)
    grid[inverse, place] = total
    values, flat = grid.flatten(1).topk(min(beam, grid[0].numel()))
    line = torch.arange(len(utterances), device=owner.device)[:, None].expand_as(flat)
    keep = values > -math.inf
    rows = first[line] + torch.div(flat, total.shape[1], rounding_mode="floor")
    return rows[keep], (flat % total.shape[1])[keep]
