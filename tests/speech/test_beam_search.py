import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from irl.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from irl.models.lstm_lm import LSTMLM, LSTMLMConfig
from irl.speech.beam_search import beam_search, greedy_ctc
from irl.speech.scorers import CTCPrefix, CTCScorer, DecoderScorer, EarlyEnd, LengthBonus, LMScorer
from irl.speech.search_options import SearchOptions

EOS = 4


def build(vocabulary=5, seed=0, scale=3.0):
    torch.manual_seed(seed)
    config = EncoderDecoderConfig(
        encoder_layers=1, encoder_units=4, subsampling=(1,), decoder_layers=2, decoder_units=4, embedding_units=3,
        attention="additive", attention_units=3,
    )  # fmt: skip
    model = EncoderDecoder(3, vocabulary, config).double().eval()
    for p in (*model.decoder.output.parameters(), *model.ctc.parameters()):
        p.data *= scale  # far from uniform, so that beams have something to lose
    return model


def encode(model, lens=(5, 3, 6)):
    lens = torch.tensor(lens)
    x = torch.randn(len(lens), int(lens.max()), 3, dtype=torch.float64)
    with torch.no_grad():
        encoded, _, out = model.encoder.hidden_states(x, lens)
        return encoded, out[-1], model.ctc(encoded).log_softmax(-1)


def language_model(vocabulary=5):
    torch.manual_seed(7)
    lm = LSTMLM(vocabulary, LSTMLMConfig(layers=2, units=6, embedding_units=4)).double().eval()
    lm.output.weight.data *= 8
    return lm


def lm_probability(lm, tokens, eos=EOS):
    x = torch.tensor([[eos, *tokens]])
    log_probs = lm(x, torch.tensor([x.shape[1]])).logits[0].log_softmax(-1)
    return float(sum(log_probs[u, t].item() for u, t in enumerate([*tokens, eos])))


def ctc_probability(log_probs, tokens):
    """log p(tokens) by torch's own CTC loss, one utterance (T, V)."""
    if not tokens:
        return float(log_probs[:, 0].sum())
    target = torch.tensor([tokens])
    n, u = len(log_probs), len(tokens)
    return -float(F.ctc_loss(log_probs[:, None], target, torch.tensor([n]), torch.tensor([u]), reduction="sum"))


def attention_probability(model, encoded, tokens, ended=True):
    y_in = torch.tensor([[EOS, *tokens]])
    logits, _ = model.decoder.hidden_states(encoded[None], torch.tensor([len(encoded)]), y_in)
    log_probs = logits[0].log_softmax(-1)
    targets = [*tokens, EOS] if ended else tokens
    return float(sum(log_probs[u, t].item() for u, t in enumerate(targets)))


def test_prefix_scores_sum_over_all_continuations():
    """psi(prefix) = sum of p(sequence) over every sequence that begins with it (brute force over all sequences)."""
    log_probs = torch.randn(1, 4, 4, dtype=torch.float64).log_softmax(-1)
    lens = torch.tensor([4])
    every = [s for n in range(5) for s in itertools.product((1, 2, 3), repeat=n)]
    p = {s: math.exp(ctc_probability(log_probs[0], list(s))) for s in every}
    assert sum(p.values()) == pytest.approx(1)
    owner = torch.tensor([0])
    candidates = torch.tensor([[1, 2, 3]])

    def check(scorer, prefix, depth):
        last = torch.tensor([prefix[-1] if prefix else -1])
        psi, end = scorer.score(last, candidates, owner)
        assert math.exp(float(end[0])) == pytest.approx(p[prefix], abs=1e-12)
        for column, token in enumerate((1, 2, 3)):
            longer = (*prefix, token)
            total = sum(v for s, v in p.items() if s[: len(longer)] == longer)
            assert math.exp(float(psi[0, column])) == pytest.approx(total, abs=1e-12)
            if depth:
                branch = CTCPrefix(log_probs, lens)
                for done in range(len(longer)):
                    seen = torch.tensor([longer[done - 1] if done else -1])
                    branch.score(seen, candidates, owner)
                    column_of = torch.tensor([longer[done] - 1])
                    branch.advance(owner, column_of, owner)
                check(branch, longer, depth - 1)

    check(CTCPrefix(log_probs, lens), (), 3)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("bonus, lm_weight", [(0.0, 0.0), (0.5, 0.0), (-0.3, 0.6), (0.2, 2.0)])
def test_a_full_beam_equals_exhaustive_search(weight, bonus, lm_weight):
    model, lm = build(), language_model()
    encoded, lens, ctc = encode(model, (4, 3))
    options = SearchOptions(
        beam=400, ctc_weight=weight, length_bonus=bonus, lm_weight=lm_weight, pre_beam_ratio=10, nbest=10**6
    )
    found = beam_search(model.decoder, encoded, lens, ctc, EOS, options, lm)
    for i, n in enumerate(lens.tolist()):
        scores = {}
        # As in ESPnet there are at most as many tokens as frames, eos among them.
        for length in range(n):
            for tokens in itertools.product((1, 2, 3), repeat=length):
                a = attention_probability(model, encoded[i, :n], list(tokens))
                c = ctc_probability(ctc[i, :n], list(tokens)) if weight else 0.0
                scores[tokens] = (1 - weight) * a + weight * c + bonus * (length + 1)
                scores[tokens] += lm_weight * lm_probability(lm, list(tokens))
        if weight == 0:
            # Without CTC nothing forbids the blank as a token; leave such utterances to the test of greedy search.
            best = found[i][0]
            assert best.score >= max(scores.values()) - 1e-9
            continue
        best = max(scores, key=scores.get)
        complete = [h for h in found[i] if len(h.tokens) < n]
        assert tuple(complete[0].tokens) == best
        assert complete[0].score == pytest.approx(scores[best], abs=1e-9)
        if lm_weight:
            assert complete[0].scores["lm"] == pytest.approx(lm_probability(lm, complete[0].tokens), abs=1e-9)


def test_beam_one_is_greedy_attention():
    model = build(scale=8.0)
    encoded, lens, _ = encode(model, (9, 6, 7, 3))
    found = beam_search(model.decoder, encoded, lens, None, EOS, SearchOptions(beam=1, ctc_weight=0.0))
    for i, n in enumerate(lens.tolist()):
        memory = model.decoder.memory(encoded[i : i + 1, :n], lens[i : i + 1])
        state, token, tokens = model.decoder.first_state(memory), EOS, []
        for _ in range(n):
            log_probs, state = model.decoder.step(torch.tensor([token]), state, memory)
            token = int(log_probs.argmax())
            if token == EOS:
                break
            tokens.append(token)
        assert found[i][0].tokens == tokens


@pytest.mark.parametrize(
    "weight, bonus, beam, lm_weight, longest, by_token",
    [
        (0.5, 0.0, 4, 0.0, 0.0, False),
        (0.3, 0.6, 3, 0.0, 0.0, False),
        (0.0, 0.2, 5, 0.0, 0.0, False),
        (0.7, 0.1, 10, 0.0, 0.0, False),
        (0.5, 0.0, 4, 0.7, 0.0, False),
        (0.3, -0.4, 5, 0.3, 0.0, True),
        (0.0, 0.5, 6, 1.0, 0.4, False),
        (0.4, 0.0, 5, 0.5, 0.6, True),
    ],
)
def test_equals_espnets_search(weight, bonus, beam, lm_weight, longest, by_token):
    """Same n-best lists and scores as BatchBeamSearch, one utterance at a time, on 12 random utterances."""
    search = pytest.importorskip("espnet.nets.batch_beam_search").BatchBeamSearch
    from espnet.nets.scorers.ctc import CTCPrefixScorer
    from espnet.nets.scorers.length_bonus import LengthBonus

    model = build(vocabulary=12, seed=3, scale=5.0)
    eos = 11
    encoded, lens, ctc = encode(model, tuple(5 + i for i in range(12)))
    lm = language_model(12)
    options = SearchOptions(
        beam=beam, ctc_weight=weight, lm_weight=lm_weight, length_bonus=bonus, max_length=longest,
        normalise_length=by_token, nbest=3,
    )  # fmt: skip
    ours = beam_search(model.decoder, encoded, lens, ctc, eos, options, lm)
    scorers = {"decoder": model.decoder, "length_bonus": LengthBonus(12), "lm": lm}
    weights = {"decoder": 1 - weight, "length_bonus": bonus, "lm": lm_weight}
    if weight:
        scorers["ctc"] = CTCPrefixScorer(model.ctc, eos)
        weights["ctc"] = weight
    theirs = search(
        beam_size=beam, weights=weights, scorers=scorers, sos=eos, eos=eos, vocab_size=12, pre_beam_score_key="full",
        normalize_length=by_token,
    ).to(dtype=torch.float64)  # fmt: skip
    for i, n in enumerate(lens.tolist()):
        expected = theirs(x=encoded[i, :n], maxlenratio=longest)[:3]
        for a, b in zip(ours[i], expected, strict=True):
            assert a.tokens == [t for t in b.yseq[1:].tolist() if t != eos]
            assert a.score == pytest.approx(float(b.score), abs=1e-4)
            for name in ("decoder", *(["lm"] if lm_weight else [])):
                assert a.scores[name] == pytest.approx(float(b.scores[name]), abs=1e-4)


def test_a_least_length_is_kept_and_otherwise_changes_nothing():
    """The best of those that are long enough, by exhaustive search."""
    model = build()
    encoded, lens, ctc = encode(model, (5, 4))
    settings = {"beam": 400, "pre_beam_ratio": 10.0, "ctc_weight": 0.5, "nbest": 10**6}
    free = beam_search(model.decoder, encoded, lens, ctc, EOS, SearchOptions(**settings))
    bound = beam_search(model.decoder, encoded, lens, ctc, EOS, SearchOptions(**settings, min_length=0.4))
    for n, a, b in zip(lens.tolist(), free, bound):
        least = int(0.4 * n)
        assert b and all(len(h.tokens) >= least for h in b) and any(len(h.tokens) < least for h in a)
        kept = [h for h in a if len(h.tokens) >= least]
        assert b[0].tokens == kept[0].tokens and b[0].score == pytest.approx(kept[0].score)
    # A beam that finds nothing long enough has a hypothesis all the same.
    narrow = SearchOptions(beam=1, ctc_weight=0.9, min_length=0.9, length_bonus=-20.0)
    assert all(len(found) == 1 for found in beam_search(model.decoder, encoded, lens, ctc, EOS, narrow))


def test_alone_equals_batched():
    model = build(vocabulary=8, seed=1)
    encoded, lens, ctc = encode(model, (9, 2, 6, 1))
    options = SearchOptions(beam=3)
    together = beam_search(model.decoder, encoded, lens, ctc, 7, options)
    for i, n in enumerate(lens.tolist()):
        one = slice(i, i + 1)
        alone = beam_search(model.decoder, encoded[one, :n], lens[one], ctc[one, :n], 7, options)
        assert alone[0][0].tokens == together[i][0].tokens
        assert alone[0][0].score == pytest.approx(together[i][0].score)


@pytest.mark.parametrize("name", ["decoder", "lm", "length_bonus", "early_end", "ctc"])
def test_each_scorer_alone_equals_batched(name):
    """Three steps in which rows branch, end and change places; utterance 1 ends after the first."""
    model, lm = build(vocabulary=8, seed=1), language_model(8)
    encoded, lens, ctc = encode(model, (9, 2, 6))

    def scorer(rows):
        longest = int(lens[rows].max())
        x, x_lens, log_probs = encoded[rows, :longest], lens[rows], ctc[rows, :longest]
        return {
            "decoder": lambda: DecoderScorer(model.decoder, x, x_lens),
            "lm": lambda: LMScorer(lm, len(x), x.device),
            "length_bonus": LengthBonus,
            "early_end": lambda: EarlyEnd(x_lens // 3, 7),
            "ctc": lambda: CTCScorer(log_probs, x_lens, 7, 5),
        }[name]()

    def run(rows, steps):
        """What `score` and `total` return for each utterance, in order."""
        one, found = scorer(rows), [[] for _ in range(len(lens))]
        last, owner = torch.full((len(rows),), 7), torch.arange(len(rows))
        for parents, tokens in steps:
            so_far = preference.expand(len(last), 8)
            gains = one.score(last, owner, so_far).expand_as(so_far)
            totals = one.total(parents, tokens)
            for row, i in enumerate(rows[owner].tolist()):
                found[i].append(gains[row])
            for row, i in enumerate(rows[owner[parents]].tolist()):
                found[i].append(totals[row])
            last, owner = tokens, owner[parents]
            one.advance(parents, tokens, owner)
        return [torch.cat([value.flatten() for value in values]) if values else None for values in found]

    # Tokens 1 to 5 are the candidates of CTC.
    preference = torch.tensor([-9, 5, 4, 3, 2, 1, -8, -7], dtype=torch.float64)
    steps = [([0, 0, 2, 2, 2], [1, 2, 3, 1, 4]), ([1, 0, 4, 2], [2, 1, 4, 1]), ([0, 0, 1, 3, 2], [5, 2, 3, 3, 1])]
    # The same steps by utterance: rows counted among its own.
    alone = {
        0: [([0, 0], [1, 2]), ([1, 0], [2, 1]), ([0, 0, 1], [5, 2, 3])],
        2: [([0, 0, 0], [3, 1, 4]), ([2, 0], [4, 1]), ([1, 0], [3, 1])],
    }
    tensors = lambda steps: [(torch.tensor(p), torch.tensor(t)) for p, t in steps]  # noqa: E731
    with torch.no_grad():
        together = run(torch.arange(3), tensors(steps))
        for i, own in alone.items():
            found = run(torch.tensor([i]), tensors(own))[i]
            assert len(found) == {0: 5 * 8 + 7, 2: 6 * 8 + 7}[i]
            torch.testing.assert_close(found, together[i])


def test_what_is_missing_is_named():
    model = build()
    encoded, lens, ctc = encode(model)
    with pytest.raises(ValueError, match="ctc_weight is positive, but the model has no CTC layer: set it to 0"):
        beam_search(model.decoder, encoded, lens, None, EOS, SearchOptions())
    with pytest.raises(ValueError, match="lm_weight is positive, but there is no language model"):
        beam_search(model.decoder, encoded, lens, ctc, EOS, SearchOptions(lm_weight=0.5))


def test_greedy_ctc():
    path = torch.tensor([[0, 1, 1, 0, 1, 2, 2], [2, 0, 0, 3, 3, 3, 1]])
    assert greedy_ctc(F.one_hot(path, 4).float(), torch.tensor([7, 6])) == [[1, 1, 2], [2, 3]]


@pytest.mark.parametrize(
    "settings",
    [
        {"beam": 0},
        {"ctc_weight": 1.0},
        {"ctc_weight": -0.1},
        {"nbest": 0},
        {"search": "deep"},
        {"lm_weight": -1.0},
        {"max_length": 0.3, "min_length": 0.5},
        {"min_length": -0.1},
    ],
)
def test_bad_options(settings):
    with pytest.raises(ValueError):
        SearchOptions(**settings)
