"""The parts of a hypothesis' score in beam search: decoder, language model, length, CTC prefix.

A scorer keeps the state of R rows. A row is a running hypothesis; row r belongs to utterance owner[r] of N. A beam
search asks every scorer what each next token adds (`score`), chooses, and tells every scorer which rows go on with
which token (`advance`). Scores are float64 and unweighted.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.output import lens_to_mask
from irl.models.encoder_decoder import Decoder
from irl.models.lstm_lm import LSTMLM

BLANK = 0


class Scorer(Protocol):
    """One part of the score. name: its key in `Hypothesis.scores`."""

    name: str

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        """What each of V next tokens adds to each row: (R, V), or a shape that broadcasts to it.

        last (R,): the rows' last tokens. owner (R,). so_far: (R, V), the weighted sum of the scorers asked before; zero
        without dimensions if there are none.
        """

    def total(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """This part of the score, from sos on, of rows `parents` (S,) extended by `tokens` (S,): (S,). The rows are
        those of the last `score`."""

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        """Go on with S rows: `parents` (S,) of the last `score`, extended by `tokens` (S,). owner (S,)."""


class _NetworkScorer:
    """Sums a network's log probabilities."""

    name: str

    def __init__(self, rows: int, device: torch.device) -> None:
        self.sums = torch.zeros(rows, dtype=torch.float64, device=device)
        self.log_probs = self.sums[:, None]

    def keep(self, log_probs: Tensor) -> Tensor:
        self.log_probs = log_probs.double()
        return self.log_probs

    def total(self, parents: Tensor, tokens: Tensor) -> Tensor:
        return self.sums[parents] + self.log_probs[parents, tokens]

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        self.sums = self.total(parents, tokens)


class DecoderScorer(_NetworkScorer):
    """The attention decoder. encoded (N, T, E), lens (N,)."""

    name = "decoder"

    def __init__(self, decoder: Decoder, encoded: Tensor, lens: Tensor) -> None:
        super().__init__(len(lens), encoded.device)
        self.decoder = decoder
        self.memory = self.rows_memory = decoder.memory(encoded, lens)
        self.state = decoder.first_state(self.memory)
        self.owner = torch.arange(len(lens), device=encoded.device)

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        log_probs, self.state = self.decoder.step(last, self.state, self.rows_memory)
        return self.keep(log_probs)

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        super().advance(parents, tokens, owner)
        self.state = self.state.rows(parents)
        # The memory is the largest tensor here: copy it only when the rows of some utterance change in number.
        if not torch.equal(owner, self.owner):
            self.rows_memory, self.owner = self.memory.rows(owner), owner


class LMScorer(_NetworkScorer):
    """A language model over the same tokens, for N utterances."""

    name = "lm"

    def __init__(self, lm: LSTMLM, count: int, device: torch.device) -> None:
        super().__init__(count, device)
        self.lm, self.state = lm, lm.first_state(count)

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        log_probs, self.state = self.lm.step(last, self.state)
        return self.keep(log_probs)

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        super().advance(parents, tokens, owner)
        self.state = self.state.rows(parents)


class LengthBonus:
    """One for each token and for eos."""

    name = "length_bonus"

    def __init__(self) -> None:
        self.length = 0

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        return so_far.new_ones(())

    def total(self, parents: Tensor, tokens: Tensor) -> Tensor:
        return torch.full(parents.shape, self.length + 1.0, dtype=torch.float64)

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        self.length += 1


class EarlyEnd(LengthBonus):
    """One for an eos before the least length of an utterance, `shortest` (N,) tokens. Its weight is a large penalty.

    The penalty is finite: where CTC leaves nothing else possible, an utterance still has a hypothesis.
    """

    name = "early_end"

    def __init__(self, shortest: Tensor, eos: int) -> None:
        super().__init__()
        self.shortest, self.eos = shortest, eos

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        early = torch.zeros_like(so_far)
        early[:, self.eos] = (self.length < self.shortest[owner]).to(so_far)
        return early


class CTCScorer:
    """CTC prefix probabilities of the `candidates` tokens that are best so far (the pre-beam), and of eos.

    Every other token scores minus infinity. log_probs (N, T, V), lens (N,).
    """

    name = "ctc"

    def __init__(self, log_probs: Tensor, lens: Tensor, eos: int, candidates: int) -> None:
        self.prefix = CTCPrefix(log_probs, lens)
        self.eos, self.count = eos, min(candidates, log_probs.shape[-1])

    def score(self, last: Tensor, owner: Tensor, so_far: Tensor) -> Tensor:
        self.candidates = so_far.topk(self.count).indices
        self.psi, self.end = self.prefix.score(last, self.candidates, owner)
        gain = torch.full_like(so_far, -math.inf).scatter(1, self.candidates, self.psi - self.prefix.psi[:, None])
        gain[:, BLANK] = -math.inf
        gain[:, self.eos] = self.end - self.prefix.psi
        return gain

    def total(self, parents: Tensor, tokens: Tensor) -> Tensor:
        psi = self.psi[parents, self._columns(parents, tokens)]
        return torch.where(tokens == self.eos, self.end[parents], psi)

    def advance(self, parents: Tensor, tokens: Tensor, owner: Tensor) -> None:
        self.prefix.advance(parents, self._columns(parents, tokens), owner)

    def _columns(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Where each token stands among its row's candidates; 0 for a token that is none of them."""
        return (self.candidates[parents] == tokens[:, None]).int().argmax(1)


class CTCPrefix:
    """The CTC prefix recursion (Watanabe et al. 2017) without a loop over frames.

    The recursion over frames is a linear recurrence. With P_t the sum of log p_u(c) up to frame t it is one
    logcumsumexp, r_t = P_t + logsumexp_{s <= t}(phi_{s-1} - P_{s-1}).

    Arrays over time have T + 1 entries, the first being "before any frame". r_n and r_b (R, T + 1): log probability of
    the frames so far and the prefix, ending in its last token or in blank. psi (R,): log probability of the prefix
    followed by anything.
    """

    def __init__(self, log_probs: Tensor, lens: Tensor) -> None:
        self.log_probs = log_probs.double()
        self.lens = lens
        self.valid = lens_to_mask(lens, log_probs.shape[1])
        self.blank = F.pad(self.log_probs[..., BLANK].cumsum(1), (1, 0))
        self.r_b = self.blank
        self.r_n = torch.full_like(self.r_b, -math.inf)
        self.psi = self.r_b.new_zeros(len(lens))

    def score(self, last: Tensor, tokens: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """psi of each row extended by each of `tokens` (R, C) -> (R, C), and of each row ended (R,)."""
        both = torch.logaddexp(self.r_n, self.r_b)
        # After the same token only a path through blank is a new token.
        same = (tokens == last[:, None])[:, None]
        self._phi = torch.where(same, self.r_b[:, :-1, None], both[:, :-1, None])
        self._chosen = self.log_probs[owner].gather(2, tokens[:, None].expand(-1, self.log_probs.shape[1], -1))
        paths = (self._phi + self._chosen).masked_fill_(~self.valid[owner][..., None], -math.inf)
        self._psi = paths.logsumexp(dim=1)
        return self._psi, both.gather(1, self.lens[owner][:, None])[:, 0]

    def advance(self, rows: Tensor, columns: Tensor, owner: Tensor) -> None:
        """Go on with `rows` (S,) of the last `score`, each extended by its token in that column (S,). owner (S,)."""
        total = self._chosen[rows, :, columns].cumsum(1)
        before = F.pad(total, (1, 0))[:, :-1]
        r_n = total + torch.logcumsumexp(self._phi[rows, :, columns] - before, dim=1)
        self.r_n = F.pad(r_n, (1, 0), value=-math.inf)
        blank = self.blank[owner]
        r_b = blank[:, 1:] + torch.logcumsumexp(self.r_n[:, :-1] - blank[:, :-1], dim=1)
        self.r_b = F.pad(r_b, (1, 0), value=-math.inf)
        self.psi = self._psi[rows, columns]
