import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from irl import Cosine, IRLLoss, tap


def task(y):
    return lambda view: F.cross_entropy(view.logits, y)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.b(self.a(self.a(x)))


def test_hidden_states_are_the_modules_outputs():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    tapped = tap(model, ["2", "0"])
    x = torch.randn(5, 3)
    output = tapped(x)
    assert list(output.hidden) == ["0", "2"], "forward order, whatever the order asked for"
    assert torch.equal(output.hidden["0"], model[0](x)) and torch.equal(output.logits, model(x))
    assert output.hidden["0"].grad_fn is not None
    other = copy.deepcopy(tapped)
    nn.init.zeros_(other.model[0].weight)
    assert not torch.equal(other(x).hidden["0"], tapped(x).hidden["0"])


def test_refusals_name_the_remedy():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match="unknown layer '7' of Sequential, known are 0, 1, 2"):
        tap(model, ["7"])
    with pytest.raises(ValueError, match="overwritten in place .*; tap the module that overwrites it"):
        tap(model, ["0"])(x)
    assert "1" in tap(model, ["1"])(x).hidden
    with pytest.raises(ValueError, match="called twice .*; tap a module that is called once"):
        tap(Twice(), ["a"])(x)
    with pytest.raises(ValueError, match="returned tuple, not a tensor; choose the tensor: tap"):
        tap(nn.Sequential(nn.LSTM(3, 4)), ["0"])(x)
    with pytest.raises(ValueError, match="select to list"):
        tap(nn.Sequential(nn.LSTM(3, 4)), ["0"], select=list)(x)
    unused = nn.Linear(3, 2)
    unused.extra = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="not called"):
        tap(unused, ["extra"])(x)
    with pytest.raises(ValueError, match="sequence"):
        tap(model, "0")


def test_a_batch_that_is_not_first_is_refused():
    rnn = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    x = torch.randn(5, 7, 3)
    with pytest.raises(ValueError, match=r"has 7 rows where the batch has 5; .*batch_dim=\{'0': 1\}"):
        tap(rnn, ["0"], select=lambda out: out[0].transpose(0, 1))(x)
    with pytest.raises(ValueError, match="unknown layer 'rn'"):
        tap(rnn, ["0"], select={"rn": lambda out: out[0]})


def test_an_error_leaves_the_model_usable_and_other_taps_alone():
    model = Twice()
    x = torch.randn(2, 3)
    with pytest.raises(ValueError):
        tap(model, ["a"])(x)
    assert model(x).shape == (2, 2)
    assert list(tap(model, ["b"])(x).hidden) == ["b"]


def test_recurrent_layers_with_batch_second():
    """A time-first LSTM inside a model: select its output, say where its batch is, and give lengths."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 4), nn.Linear(4, 2)

        def forward(self, x, lens):
            return self.out(self.rnn(x.transpose(0, 1))[0]).transpose(0, 1), lens

    model = tap(Tagger(), ["rnn"], select=lambda out: out[0], batch_dim={"rnn": 1}, lens_fn=lambda out: {"rnn": out[1]})
    x, lens = torch.randn(5, 7, 3), torch.tensor([7, 3, 1, 5, 2])
    output = model(x, lens)
    assert output.hidden["rnn"].shape == (5, 7, 4) and torch.equal(output.lens["rnn"], lens)
    noisy = x + 0.1
    padding = torch.arange(7)[None, :, None] >= lens[:, None, None]
    same = [IRLLoss(0, 0, 1)(model, (x, lens), [(torch.where(padding, v, noisy), lens)], None).dist for v in (0.0, 9.0)]
    torch.testing.assert_close(*same)


def test_five_lines_on_torchvision():
    torchvision = pytest.importorskip("torchvision")
    my_model = torchvision.models.resnet18(num_classes=10)
    clean, y = torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))
    noisy = clean + 0.1 * torch.randn_like(clean)

    model = tap(my_model, ["layer3", "layer4"])
    irl_loss = IRLLoss(alpha=0.5, beta=0.5, gamma=1.0, layers={"layer4": 1.0})
    terms = irl_loss(model, clean, [noisy], task(y))
    terms.total.backward()

    assert list(terms.per_layer) == ["layer4"] and my_model.conv1.weight.grad.abs().sum() > 0
    a, b = model(torch.cat([clean, noisy])).hidden["layer4"].flatten(1).chunk(2)
    cosine = 1 - F.cosine_similarity(a.double(), b.double()).mean()
    my_model.eval(), my_model.train()
    torch.testing.assert_close(terms.parts["cosine"]["layer4"].double(), cosine, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="overwritten in place"):
        tap(torchvision.models.resnet18(), ["layer1.0.bn1"])(clean)


def test_timm_vision_transformer():
    timm = pytest.importorskip("timm")
    model = tap(timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=5), ["blocks.11"])
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    terms = IRLLoss(distance=1.0 * Cosine())(model, x, [x + 0.1 * torch.randn_like(x)] * 2, task(y))
    terms.total.backward()
    assert 0 < terms.per_layer["blocks.11"] < 1


def test_espnet_conformer():
    encoder = pytest.importorskip("espnet2.asr.encoder.conformer_encoder").ConformerEncoder
    model = encoder(40, output_size=16, linear_units=32, num_blocks=2, attention_heads=2, dropout_rate=0.0).eval()
    layers = ["encoders.0", "encoders.1"]
    tapped = tap(model, layers, select=lambda out: out[0][0], lens_fn=lambda out: out[1])
    x, lens = torch.randn(2, 80, 40), torch.tensor([80, 47])
    output = tapped(x, lens)
    assert output.hidden["encoders.0"].shape[:2] == output.logits[0].shape[:2]
    assert torch.equal(output.lens["encoders.1"], output.logits[1])
    with pytest.raises(ValueError, match="returned tuple"):
        tap(encoder(40, output_size=16, num_blocks=1), ["encoders.0"])(x, lens)
    terms = IRLLoss(0, 0, 1)(tapped, (x, lens), [(x + 0.1 * torch.randn_like(x), lens)], None)
    terms.total.backward()
    assert 0 < terms.dist and list(terms.per_layer) == layers
