"""The user's model stays the user's: hooks come and go, files, compilers, repeated and skipped layers."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict
from dataclasses import dataclass, fields

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from irl import KL, IRLLoss, tap


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 8)

    def forward(self, x):
        h = None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


def test_hooks_go_with_the_tap():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(2, 4)
    tapped = tap(model, ["1"])
    life = weakref.ref(tapped)
    other = tap(model, ["0", "1"])
    assert len(model[1]._forward_hooks) == 1, "one hook for all taps"
    assert list(tapped(x).hidden) == ["1"] and list(other(x).hidden) == ["0", "1"]
    del tapped
    gc.collect()
    assert life() is None and list(other(x).hidden) == ["0", "1"]
    for _ in range(10):
        tap(model, ["1"])
    again = tap(other, ["1"])
    assert again.model is model and list(again(x).hidden) == ["1"], "tapping a tapped model replaces its layers"
    assert not model[0]._forward_hooks and len(model[1]._forward_hooks) == 1
    with pytest.raises(ValueError, match="this tap was removed; tap the model again"):
        other(x)
    with tap(model, ["0"]) as tapped:
        tapped(x)
    assert again.remove() is model
    assert not model[0]._forward_hooks and not model[1]._forward_hooks
    torch.jit.script(model)


def test_files_and_copies(tmp_path):
    """Spawned processes and files hold what can be pickled; the model alone always can."""
    model = nn.Sequential(nn.LSTM(4, 8, batch_first=True))
    tapped, x = tap(model, ["0"], select=0).eval(), torch.randn(2, 5, 4)
    other = pickle.loads(pickle.dumps(tapped))
    assert not other.training and torch.equal(other(x).hidden["0"], tapped(x).hidden["0"])
    assert pickle.loads(pickle.dumps(IRLLoss(passes="separate"))).passes == "separate"
    unpicklable = tap(model, ["0"], select=lambda out: out[0])
    torch.save(model, tmp_path / "model.pt")
    plain = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(plain(x)[0], model(x)[0])
    assert torch.equal(tap(plain, ["0"], select=(0,))(x).hidden["0"], unpicklable(x).hidden["0"])
    copied = copy.deepcopy(unpicklable)
    nn.init.zeros_(copied.model[0].weight_ih_l0)
    assert not torch.equal(copied(x).hidden["0"], unpicklable(x).hidden["0"])


def test_layers_called_several_times():
    model, x = Cell(), torch.randn(2, 5, 4)
    with pytest.raises(ValueError, match="calls='all'"):
        tap(model, ["cell"])(x)
    every = tap(model, ["cell"], calls="all")(x).hidden
    steps, h = [], None
    for t in range(5):
        h = model.cell(x[:, t], h)
        steps.append(h)
    assert list(every) == [f"cell[{t}]" for t in range(5)]
    assert all(torch.equal(every[f"cell[{t}]"], steps[t]) for t in range(5))
    assert torch.equal(tap(model, ["cell"], calls="last")(x).hidden["cell"], h)
    lens = lambda inputs, output: torch.tensor([5, 2, 5, 2])  # noqa: E731
    tapped = tap(model, ["cell"], calls="stack", lens=lens)
    terms = IRLLoss(0, 0, 1)(tapped, x, [x + 1], None)
    assert tapped(torch.cat([x, x])).hidden["cell"].shape == (4, 5, 8) and terms.dist > 0
    changed = x.clone()
    changed[1, 2:] = 9.0
    assert torch.equal(IRLLoss(0, 0, 1)(tapped, changed, [x + 1], None).dist, terms.dist)
    with pytest.raises(ValueError, match="calls must be one of once, all, last, stack, got 'first'"):
        tap(model, ["cell"], calls="first")


def test_layers_that_some_passes_skip():
    class Dropping(nn.Sequential):
        skip = False

        def forward(self, x):
            return self[1](x if self.skip else self[0](x))

    model, x = Dropping(nn.Linear(3, 3), nn.Linear(3, 2)), torch.randn(2, 3)
    tapped = tap(model, ["0", "1"], missing="skip")
    loss = IRLLoss(layers={"0": 1.0, "1": 2.0})
    task = lambda view: view.logits.square().mean()  # noqa: E731
    assert list(loss(tapped, x, [x + 1], task).per_layer) == ["0", "1"]
    model.skip = True
    terms = loss(tapped, x, [x + 1], task)
    assert list(terms.per_layer) == ["1"] and tapped(x).hidden["0"] is None
    torch.testing.assert_close(terms.dist, 2 * terms.per_layer["1"])
    nothing = IRLLoss(layers=["0"])(tapped, x, [x + 1], task)
    assert nothing.dist == 0 and torch.equal(nothing.total, 0.5 * nothing.clean + 0.5 * nothing.noisy)
    with pytest.raises(ValueError, match="missing='skip'"):
        tap(model, ["0"])(x)


def test_overwritten_in_place():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(F.relu(self.a(x), inplace=True))

    model, x = Overwriting(), torch.randn(4, 4)
    with pytest.raises(ValueError, match=r"overwritten in place .*tap\(..., copy=True\)"):
        tap(model, ["a"])(x)
    kept = tap(model, ["a"], copy=True)(x)
    assert torch.equal(kept.hidden["a"], model.a(x)) and torch.equal(kept.logits, model(x))
    compiled = torch.compile(tap(model, ["a"]), backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled.hidden["a"], model.a(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.a(x))


def test_compiled_blocks_and_models_that_were_compiled_before():
    torch.compiler.reset()
    x = torch.randn(2, 4)
    model = nn.Sequential(Block(), Block(), Block())
    for block in model:
        block.compile(backend="eager")
    assert torch.equal(tap(model, ["2.a"])(x).hidden["2.a"], model[2].a(model[:2](x)))
    model(x)
    assert list(tap(model, ["1.a", "1"])(x).hidden) == ["1.a", "1"]
    plain = nn.Sequential(Block(), Block())
    compiled = torch.compile(plain, backend="eager")
    compiled(x)
    assert torch.equal(tap(compiled, ["_orig_mod.1.a"])(x).hidden["_orig_mod.1.a"], plain[1].a(plain[0](x)))


def test_a_layer_that_was_replaced_after_the_tap():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(2, 4)
    tapped = tap(model, ["0"])
    adapted = nn.Sequential()
    adapted.base_layer, inner = model[0], model[0]
    model[0] = adapted
    with pytest.raises(ValueError, match="was replaced after it was tapped .*LoRA.*tap the model again"):
        tapped(x)
    assert "0" in tap(tapped.model, ["0"])(x).hidden
    checkpointed = nn.Module()
    checkpointed._checkpoint_wrapped_module, checkpointed.forward = inner, inner.__call__
    model[0] = checkpointed
    assert torch.equal(tapped(x).hidden["0"], inner(x)), "a wrapper that runs it unchanged is none"


@dataclass
class Config:
    units: int = 8


class ModelOutput(OrderedDict):
    """As transformers' ModelOutput: fields are attributes and keys, and None is left out."""

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) is not None:
                super().__setitem__(field.name, getattr(self, field.name))

    def __setitem__(self, key, value):
        raise AssertionError("rebuilt by its constructor")


@dataclass
class Classified(ModelOutput):
    loss: torch.Tensor = None
    logits: torch.Tensor = None
    states: tuple = None


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.config, self.encoder, self.head = Config(), nn.Linear(4, 8), nn.Linear(8, 3)
        self.checkpointing = False

    def forward(self, x, labels=None):
        h = self.encoder(x)
        logits = self.head(h)
        return Classified(None if labels is None else F.cross_entropy(logits, labels), logits, (h,))

    def gradient_checkpointing_enable(self):
        self.checkpointing = True


def test_objects_come_out_as_they_went_in():
    model, x, y = Classifier(), torch.randn(3, 4), torch.tensor([0, 1, 2])
    task = lambda view: F.cross_entropy(view.logits.logits, y)  # noqa: E731
    seen = []
    for loss in (IRLLoss(), IRLLoss.preset("baseline"), IRLLoss(passes="separate")):
        loss(tap(model, ["encoder"]), {"x": x}, [{"x": x + 1}], lambda v: (seen.append(v.logits), task(v))[1])
    assert all(type(o) is Classified and o.loss is None and "loss" not in o and o["logits"] is o.logits for o in seen)
    assert all(o.states[0].shape == (3, 8) for o in seen)
    ours = IRLLoss(0.3, 0.7, 0)(tap(model, ["encoder"]), {"x": x}, [{"x": x + 1}], task).total
    a, b = model(torch.cat([x, x + 1])).logits.chunk(2)
    assert torch.equal(ours, 0.3 * F.cross_entropy(a, y) + 0.7 * F.cross_entropy(b, y))
    views = [{"x": v, "labels": y} for v in (x, x + 1)]
    own = IRLLoss(0.3, 0.7, 0, passes="separate")(tap(model, ["encoder"]), views[0], views[1:], lambda v: v.logits.loss)
    torch.testing.assert_close(own.total, ours)
    kl = IRLLoss(0, 0, 1, distance=KL(), layers=["logits"])(tap(model, ["encoder"]), x, [x + 1], None).dist
    p, q = (model(v).logits.log_softmax(-1) for v in (x, x + 1))
    torch.testing.assert_close(kl, (p.exp() * (p - q)).sum(1).mean())


def test_methods_and_settings_of_the_model_are_reached():
    model = Classifier()
    tapped = tap(model, ["encoder"])
    tapped.gradient_checkpointing_enable()
    assert model.checkpointing and tapped.config.units == 8 and tapped.model is model
    with pytest.raises(AttributeError, match="Classifier.* no attribute 'generates'"):
        tapped.generates


def test_names():
    model, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)
    model.second = model[0]
    assert "second" in tap(model, ["second"], calls="last")(x).hidden
    with pytest.raises(ValueError, match="'0' is named twice"):
        tap(model, ["0", "0"])
    teacher = nn.Sequential(nn.Identity(), nn.Linear(4, 4))
    views = [tap(nn.Sequential(nn.Linear(4, 4)), ["0"])(x), tap(teacher, ["1"])(x)]
    with pytest.raises(ValueError, match=r"different layers, \['0'\] and \['1'\]: rename them by view._replace"):
        IRLLoss(0, 0, 1).terms(views, None)
    views[1] = views[1]._replace(hidden={"0": views[1].hidden["1"]})
    assert IRLLoss(0, 0, 1).terms(views, None).dist > 0
    model.forward = lambda x: (model[0](x), x)
    with pytest.raises(ValueError, match="layer 'logits' is a tuple, not a tensor: tap the module that computes it"):
        IRLLoss(0, 0, 1, layers=["logits"])(tap(model, ["0"]), x, [x], None)


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_of_a_transformer_in_eval_mode():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    lens = lambda i, o: (~i["src_key_padding_mask"]).sum(1)  # noqa: E731
    tapped = tap(model, ["layers.0", "layers.1"], lens=lens)
    with torch.no_grad():
        view = {"src": x, "src_key_padding_mask": padding}
        found = IRLLoss(0, 0, 1)(tapped, view, [{**view, "src": x + torch.randn(2, 5, 8)}], None)
        hidden = tapped(**view).hidden["layers.1"]
    trained = tapped(**view).hidden["layers.1"]
    torch.testing.assert_close(hidden[1, :3], trained[1, :3])
    assert found.dist > 0 and not hidden.is_nested


def test_packed_sequences_are_padded_in_the_order_of_the_batch():
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(4, 5), nn.Linear(5, 3)

        def forward(self, x, lens):
            packed = pack_padded_sequence(x, lens, batch_first=True, enforce_sorted=False)
            return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    net, x, lens = Packing(), torch.randn(3, 6, 4), torch.tensor([2, 6, 4])
    tapped = tap(net, ["rnn"], select=0, lens="lens")
    hidden = tapped(x, lens).hidden["rnn"]
    for row, n in enumerate(lens):
        torch.testing.assert_close(hidden[row, :n], net.rnn(x[row, :n])[0])
    terms = IRLLoss()(tapped, (x, lens), [(x + 0.3, lens)], lambda view: view.logits.square().mean())
    a, b = ([net.rnn(v[row, :n])[0] for row, n in enumerate(lens)] for v in (x, x + 0.3))
    frames = [0.1 * (p - q).norm(dim=1) + 1 - F.cosine_similarity(p, q, dim=1) for p, q in zip(a, b)]
    torch.testing.assert_close(terms.dist, torch.stack([f.mean() for f in frames]).mean())


@pytest.mark.parametrize("inner", ["body", "model"])
def test_state_dicts_have_the_models_own_names(inner):
    """Trainers of others save model.state_dict(): the files are to be read without the tap."""

    def make():
        net = nn.Module()
        net.head, net.bn = nn.Linear(4, 3), nn.BatchNorm1d(3)
        net.add_module(inner, nn.Sequential(nn.Linear(4, 4)))
        getattr(net, inner).head = net.head  # `model.head` beside `head`
        return net

    own, other = make(), make()
    state = tap(own, ["bn"]).state_dict()
    assert state.keys() == own.state_dict().keys()
    other.load_state_dict(state)
    for saved in (state, {f"model.{name}": value for name, value in state.items()}):  # of now, and of earlier versions
        fresh = make()
        tap(fresh, ["bn"]).load_state_dict(saved)
        for net in (fresh, other):
            assert all(torch.equal(net.state_dict()[name], own.state_dict()[name]) for name in state)
    backbone = nn.Module()
    backbone.model, backbone.head = make(), nn.Linear(4, 3)  # `model.head` and `head` are not the same
    kept = tap(backbone, ["model.bn"]).state_dict()
    assert kept.keys() == backbone.state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in backbone.state_dict().items())
    nested = nn.ModuleDict({"net": tap(make(), ["bn"])})
    nested.load_state_dict({f"net.{name}": value for name, value in state.items()})
    assert torch.equal(nested["net"].head.weight, own.head.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        tap(make(), ["bn"]).load_state_dict({name: value for name, value in state.items() if "bn" not in name})
