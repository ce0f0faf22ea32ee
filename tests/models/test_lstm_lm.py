import math

import pytest
import torch

from irl.models.lstm_lm import LSTMLM, Dropout, LMState, LSTMLMConfig
from irl.objective import IRLLoss

CONFIG = LSTMLMConfig(layers=2, units=6, embedding_units=5)


def build(config=CONFIG, vocabulary=7):
    return LSTMLM(vocabulary, config).double().eval()


def test_steps_equal_the_whole_sequence():
    model = build()
    x = torch.randint(7, (3, 5))
    whole = model(x, torch.tensor([5, 5, 5])).logits.log_softmax(-1)
    state = model.first_state(3)
    for t in range(5):
        log_probs, state = model.step(x[:, t], state)
        torch.testing.assert_close(log_probs, whole[:, t])
        # As a search does: hypotheses change places, and states with them.
        order = torch.tensor([2, 0, 1])
        x, whole, state = x[order], whole[order], state.rows(order)


def test_equals_torchs_own_lstm():
    model = build()
    peer = torch.nn.LSTM(5, 6, num_layers=2, batch_first=True).double()
    for i, layer in enumerate(model.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(peer, f"{name}_l{i}").data.copy_(getattr(layer, f"{name}_l0"))
    x = torch.randint(7, (2, 4))
    expected = model.output(peer(model.embed(x))[0])
    view = model(x, torch.tensor([4, 4]))
    torch.testing.assert_close(view.logits, expected)
    assert list(view.hidden) == ["embedding", "rnn.0", "rnn.1"] and view.hidden["rnn.1"].shape == (2, 4, 6)


def test_parameters_tied_and_untied():
    units = LSTMLMConfig(layers=1, units=8, embedding_units=8)
    lstm = 4 * 8 * (8 + 8 + 2)
    assert sum(p.numel() for p in build(units).parameters()) == 7 * 8 + lstm + 7 * 8 + 7
    tied = build(LSTMLMConfig(layers=1, units=8, embedding_units=8, tied=True))
    assert sum(p.numel() for p in tied.parameters()) == 7 * 8 + lstm + 7
    with pytest.raises(ValueError, match="tied needs embedding_units equal to units"):
        LSTMLMConfig(units=8, embedding_units=4, tied=True)


def test_padding_moves_nothing():
    model = build()
    x = torch.randint(7, (2, 6))
    view = model(x, torch.tensor([6, 3]))
    alone = model(x[1:, :3], torch.tensor([3]))
    torch.testing.assert_close(view.logits[1, :3], alone.logits[0])
    # The objective takes its views like any model's.
    loss = IRLLoss(gamma=1.0)
    terms = loss(model, (x, torch.tensor([6, 3])), [(x.flip(1), torch.tensor([6, 3]))], None)
    assert set(terms.per_layer) == {"embedding", "rnn.0", "rnn.1"} and terms.dist > 0


def test_espnets_scorer_protocol():
    model = build()
    y = torch.tensor([6, 1, 2])
    x = torch.zeros(9, 4)
    state = model.init_state(x)
    total = 0.0
    for t in range(1, 3):
        scores, state = model.score(y[:t], state, x)
        total += float(scores[y[t]])
    whole = model(y[None, :-1], torch.tensor([2])).logits[0].log_softmax(-1)
    assert total == pytest.approx(float(whole[0, 1] + whole[1, 2]))
    first = model.init_state(x)
    both, states = model.batch_score(torch.tensor([[6], [1]]), [first, first], x[None].expand(2, -1, -1))
    assert both.shape == (2, 7) and len(states) == 2 and all(isinstance(s, LMState) for s in states)
    assert torch.allclose(both.exp().sum(1), torch.ones(2, dtype=torch.float64))


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    model = build()
    model.output.weight.data.zero_(), model.output.bias.data.zero_()
    x = torch.randint(7, (1, 4))
    log_probs = model(x, torch.tensor([4])).logits.log_softmax(-1)
    assert math.exp(-float(log_probs.mean())) == pytest.approx(7)


def test_extra_input_symbols_are_never_predicted():
    for tied in (False, True):
        model = LSTMLM(7, LSTMLMConfig(layers=1, units=6, embedding_units=6, tied=tied), extra=2).double()
        view = model(torch.tensor([[0, 7, 8, 6]]), torch.tensor([4]))
        assert view.logits.shape == (1, 4, 7)
        assert view.hidden["embedding"][0, 1].any() and not view.hidden["embedding"][0, 2].any()
        view.logits.sum().backward()
        assert not model.embed.weight.grad[8].any() and model.embed.weight.grad[7].any()


def test_initialisation():
    model = LSTMLM(50, LSTMLMConfig(layers=2, units=20, embedding_units=20, init=0.05, forget_bias=1.0), extra=2)
    for layer in model.layers:
        bias = layer.bias_ih_l0 + layer.bias_hh_l0
        assert bias[20:40].tolist() == [1.0] * 20 and not bias[:20].any() and not bias[40:].any()
    for weight in (model.embed.weight[:51], model.layers[1].weight_hh_l0, model.output.weight):
        assert 0.04 < float(weight.detach().max()) <= 0.05 and abs(float(weight.detach().mean())) < 0.005
    assert not model.embed.weight[51].any() and not model.output.bias.any()


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_dropout_masks(variational, shared):
    dropout = Dropout(0.5, variational)
    dropout.shared = shared
    found = dropout(torch.ones(40, 30, 20))
    assert set(found.unique().tolist()) == {0.0, 2.0} and float(found.mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(found[:20], found[20:]) == (shared == 2)
    assert torch.equal(found[:, :1].expand_as(found), found) == variational
    assert dropout.eval()(found) is found
