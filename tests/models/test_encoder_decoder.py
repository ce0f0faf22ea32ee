import pytest
import torch
from torch import nn
from torch.nn import functional as F

from irl.models.attention import KINDS
from irl.models.blstm import BLSTM, reverse_padded
from irl.models.encoder_decoder import Decoder, Encoder, EncoderDecoder, EncoderDecoderConfig

LENS = torch.tensor([7, 12, 1, 5])


def config(**settings):
    small = dict(
        encoder_layers=4, encoder_units=5, subsampling=(2, 1, 2, 1), decoder_layers=4, decoder_units=6,
        embedding_units=3, attention="additive", attention_units=4, location_channels=2, location_width=3,
    )  # fmt: skip
    return EncoderDecoderConfig(**{**small, **settings})


def inputs(dtype=torch.float64):
    x = torch.randn(4, 12, 3, dtype=dtype)
    y = torch.randint(1, 8, (4, 6))
    return x, LENS, y, torch.tensor([6, 2, 4, 1])


def test_blstm_equals_packed_lstm():
    ours = BLSTM(3, 5).double()
    theirs = nn.LSTM(3, 5, batch_first=True, bidirectional=True).double()
    for name, value in ours.forward_lstm.named_parameters():
        getattr(theirs, name).data.copy_(value)
    for name, value in ours.backward_lstm.named_parameters():
        getattr(theirs, name + "_reverse").data.copy_(value)
    x = torch.randn(4, 12, 3, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENS, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=12)
    got = ours(x, LENS)
    mask = torch.arange(12) < LENS[:, None]
    torch.testing.assert_close(got[mask], expected[mask], rtol=1e-12, atol=1e-12)
    got[mask].sum().backward()
    expected[mask].sum().backward()
    torch.testing.assert_close(ours.backward_lstm.weight_ih_l0.grad, theirs.weight_ih_l0_reverse.grad)
    assert torch.equal(reverse_padded(reverse_padded(x, LENS), LENS), x)
    assert torch.equal(reverse_padded(x, LENS)[0, :7], x[0, :7].flip(0))


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("layer_norm", [True, False])
def test_alone_equals_batched_in_any_order(attention, layer_norm):
    model = EncoderDecoder(3, 8, config(attention=attention, layer_norm=layer_norm)).double().eval()
    x, x_lens, y, y_lens = inputs()
    x[torch.arange(12) >= x_lens[:, None]] = 1e6  # padding may hold anything finite
    together = model(x, x_lens, y, y_lens)
    for i in (2, 0, 3, 1):
        alone = model(x[i : i + 1, : x_lens[i]], x_lens[i : i + 1], y[i : i + 1, : y_lens[i]], y_lens[i : i + 1])
        for name, value in alone.named().items():
            n = int(alone.lens[name][0])
            assert n == int(together.lens[name][i])
            torch.testing.assert_close(value[0, :n], together.named()[name][i, :n], rtol=1e-9, atol=1e-11)


def test_output_names_shapes_and_gradients():
    model = EncoderDecoder(3, 8, config())
    output = model(*inputs(torch.float32))
    assert list(output.hidden) == [f"encoder.{i}" for i in range(4)] + [f"decoder.{i}" for i in range(4)]
    shapes = {name: tuple(h.shape) for name, h in output.hidden.items()}
    assert shapes["encoder.0"] == (4, 6, 10) and shapes["encoder.3"] == (4, 3, 10) and shapes["decoder.3"] == (4, 6, 6)
    assert output.logits.shape == (4, 6, 8) and output.extra["ctc"].shape == (4, 3, 8)
    assert output.lens["encoder.3"].tolist() == [2, 3, 1, 2]
    # Never detached: every hidden state reaches the input layer or the embedding.
    for name, hidden in output.hidden.items():
        grads = torch.autograd.grad(hidden.sum(), model.encoder.layers[0].forward_lstm.weight_ih_l0, retain_graph=True)
        assert grads[0].abs().sum() > 0, name


def test_parameter_count():
    count = sum(p.numel() for p in EncoderDecoder(80, 52, EncoderDecoderConfig()).parameters())

    def lstm(i, h, directions=1):
        return directions * 4 * h * (i + h + 2)

    e, h = 640, 320
    encoder = lstm(80, h, 2) + 3 * lstm(e, h, 2) + 4 * 2 * e
    location = 10 * 101 + 10 * 320
    attention = e * 320 + 320 + h * 320 + 320 + location
    decoder = 52 * 320 + lstm(320 + e, h) + lstm(h + e, h) + 2 * lstm(h, h) + 4 * 2 * h + (h + e) * 52 + 52
    assert count == encoder + attention + decoder + e * 52 + 52


@pytest.mark.parametrize("attention", KINDS)
def test_steps_equal_teacher_forcing(attention):
    model = EncoderDecoder(3, 8, config(attention=attention)).double().eval()
    x, x_lens, y, _ = inputs()
    encoded, _, lens = model.encoder.hidden_states(x, x_lens)
    logits, _ = model.decoder.hidden_states(encoded, lens[-1], y)
    memory = model.decoder.memory(encoded, lens[-1])
    state = model.decoder.first_state(memory)
    for u in range(y.shape[1]):
        log_probs, state = model.decoder.step(y[:, u], state, memory)
        torch.testing.assert_close(log_probs, logits[:, u].log_softmax(-1))


def test_attention_against_a_plain_loop():
    model = EncoderDecoder(3, 8, config()).double()
    attention = model.decoder.attention
    values, query = torch.randn(1, 5, 10, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    memory = attention.memory(values, torch.tensor([[True, True, True, False, False]]))
    context, weights = attention(query, attention.first_weights(memory), memory)
    energies = [
        (attention.score.weight[0] * torch.tanh(attention.key(values[0, t]) + attention.query.weight @ query[0])).sum()
        for t in range(3)
    ]
    expected = torch.stack(energies).softmax(0)
    torch.testing.assert_close(weights[0, :3], expected)
    torch.testing.assert_close(context[0], sum(w * values[0, t] for t, w in enumerate(expected)))
    assert weights[0, 3:].abs().sum() == 0


def test_espnet_classes_and_scorer_protocol():
    abs_encoder = pytest.importorskip("espnet2.asr.encoder.abs_encoder").AbsEncoder
    from espnet2.asr.decoder.abs_decoder import AbsDecoder
    from espnet.nets.scorer_interface import BatchScorerInterface

    model = EncoderDecoder(3, 8, config()).double().eval()
    assert isinstance(model.encoder, abs_encoder) and isinstance(model.decoder, (AbsDecoder, BatchScorerInterface))
    assert isinstance(model.decoder, BatchScorerInterface) and model.encoder.output_size() == 10
    x, x_lens, y, y_lens = inputs()
    encoded, lens, states = model.encoder(x, x_lens)
    logits, _ = model.decoder(encoded, lens, y, y_lens)
    assert states is None
    alone = encoded[1, : lens[1]]
    state = model.decoder.init_state(alone)
    for u in range(6):
        scores, state = model.decoder.score(y[1, : u + 1], state, alone)
        torch.testing.assert_close(scores, logits[1, u].log_softmax(-1))
    # Two hypotheses at once are scored as each alone.
    first = model.decoder.init_state(alone)
    ys = torch.tensor([[7, 1], [7, 2]])
    _, states = model.decoder.batch_score(ys[:, :1], [first, first], alone.expand(2, *alone.shape))
    both, _ = model.decoder.batch_score(ys, states, alone.expand(2, *alone.shape))
    for row in range(2):
        one, _ = model.decoder.score(ys[row], states[row], alone)
        torch.testing.assert_close(both[row], one)


def test_inside_espnets_own_model():
    """An ESPnet user plugs encoder and decoder into ESPnetASRModel and gets its losses."""
    asr = pytest.importorskip("espnet2.asr.espnet_model")
    from espnet2.asr.ctc import CTC

    tokens = ["<blank>", "<unk>", *"abcde", "<sos/eos>"]
    encoder = Encoder(3, config())
    decoder = Decoder(8, encoder.output_size(), config())
    model = asr.ESPnetASRModel(
        vocab_size=8, token_list=tokens, frontend=None, specaug=None, normalize=None, preencoder=None, encoder=encoder,
        postencoder=None, decoder=decoder, ctc=CTC(8, encoder.output_size(), dropout_rate=0.0), joint_network=None,
        ctc_weight=0.5,
    )  # fmt: skip
    x, x_lens, _, _ = inputs(torch.float32)
    y, y_lens = torch.tensor([[2], [3], [4], [5]]), torch.ones(4, dtype=torch.long)
    loss, stats, _ = model(x, x_lens, y, y_lens)
    loss.backward()
    assert torch.isfinite(loss) and encoder.layers[0].forward_lstm.weight_ih_l0.grad.abs().sum() > 0


def test_dropout_masks_differ_between_views_and_hidden_states_come_before_them():
    model = EncoderDecoder(3, 8, config(dropout=0.5)).train()
    x, x_lens, y, y_lens = inputs(torch.float32)
    twice = [t.repeat(2, *[1] * (t.dim() - 1)) for t in (x, x_lens, y, y_lens)]
    a, b = model(*twice).views(2)
    # A processor's LSTM may round rows of one batch differently.
    torch.testing.assert_close(a.hidden["encoder.0"], b.hidden["encoder.0"], rtol=1e-5, atol=1e-6)
    assert (a.hidden["encoder.1"] - b.hidden["encoder.1"]).abs().max() > 0.01


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"subsampling": (1, 1)}, "one factor for each of 4"),
        ({"dropout": 1.0}, "dropout"),
        ({"decoder_layers": 0}, "decoder_layers: expected int >= 1, found 0"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_unknown_attention():
    with pytest.raises(ValueError, match="expected one of additive, dot, location"):
        EncoderDecoder(3, 8, config(attention="multihead"))


@pytest.mark.parametrize("layers", [1, 2])
def test_one_and_two_layers(layers):
    model = EncoderDecoder(
        3, 8, config(encoder_layers=layers, subsampling=(1,) * layers, decoder_layers=layers, ctc=False)
    )
    output = model(*inputs(torch.float32))
    assert len(output.hidden) == 2 * layers and not output.extra
    F.cross_entropy(output.logits.flatten(0, 1), torch.zeros(24, dtype=torch.long)).backward()
