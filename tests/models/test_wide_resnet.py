import math

import pytest
import torch
from torch.nn import functional as F

from irl.models.wide_resnet import WideResNet, WideResNetConfig, count_parameters, multiply_adds


def plain(x, state, depth, width, training):
    """The network written down as in the paper's Table 1 and Figure 1, from a state dict alone."""

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / torch.sqrt(var + 1e-5)[:, None, None]
        return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

    h, hidden = F.conv2d(x, state["conv.weight"], padding=1), {}
    for group in (1, 2, 3):
        for block in range((depth - 4) // 6):
            at = f"blocks.group{group}_block{block}"
            stride = 2 if group > 1 and block == 0 else 1
            a = norm(h, f"{at}.norm1").relu()
            r = F.conv2d(a, state[f"{at}.conv1.weight"], stride=stride, padding=1)
            r = F.conv2d(norm(r, f"{at}.norm2").relu(), state[f"{at}.conv2.weight"], padding=1)
            shortcut = f"{at}.shortcut.weight"
            h = r + (F.conv2d(a, state[shortcut], stride=stride) if shortcut in state else h)
            hidden[f"group{group}.block{block}"] = h
    h = norm(h, "norm").relu().mean((2, 3))
    return h @ state["linear.weight"].T + state["linear.bias"], hidden


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2), (22, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_equals_a_plain_network(depth, width, training):
    model = WideResNet(7, WideResNetConfig(depth, width)).double().train(training)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(value, 0.5, 1.5)
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    logits, hidden = plain(x, state, depth, width, training)
    output = model(x)
    torch.testing.assert_close(output.logits, logits)
    assert list(output.hidden) == list(hidden) == WideResNetConfig(depth, width).layer_names()
    for name, value in hidden.items():
        torch.testing.assert_close(output.hidden[name], value)


@pytest.mark.parametrize(
    ("depth", "width", "classes", "count"),
    # 36.5, 8.9, 11.0 and 2.7 million in the authors' tables.
    [
        (28, 10, 10, 36_479_194),
        (28, 10, 100, 36_536_884),
        (40, 4, 10, 8_949_210),
        (16, 8, 10, 10_961_370),
        (16, 4, 10, 2_748_890),
    ],
)
def test_parameter_counts(depth, width, classes, count):
    with torch.device("meta"):
        assert count_parameters(WideResNet(classes, WideResNetConfig(depth, width))) == count


def test_the_last_group_of_wrn_28_has_four_blocks():
    names = WideResNetConfig().layer_names()
    assert len(names) == 12 and names[-4:] == [f"group3.block{i}" for i in range(4)]


def test_initialisation_is_that_of_he():
    model = WideResNet(10, WideResNetConfig(16, 4))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert not model.linear.bias.any()


def test_multiply_adds_of_a_network_counted_by_hand():
    # WRN-10-1 on 8 x 8: convolutions in x out x kernel x positions, and the linear layer.
    conv = 3 * 16 * 9 * 64
    group1 = 2 * 16 * 16 * 9 * 64
    group2 = (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 16
    group3 = (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64) * 4
    assert multiply_adds(WideResNetConfig(10, 1), size=8) == conv + group1 + group2 + group3 + 640


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_channels_last_agree_with_float32(dtype):
    model = WideResNet(10, WideResNetConfig(10, 1)).eval()
    x = torch.randn(4, 3, 32, 32)
    expected = model(x).logits
    last = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)).logits, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype):
        half = model(x).logits
    assert half.dtype == dtype and (half.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_dropout_acts_in_training_alone():
    model = WideResNet(10, WideResNetConfig(10, 1, dropout=0.5))
    x = torch.randn(2, 3, 8, 8)
    assert not torch.equal(model(x).logits, model(x).logits)
    model.eval()
    assert torch.equal(model(x).logits, model(x).logits)


@pytest.mark.slow
def test_compiled():
    model = WideResNet(10, WideResNetConfig(10, 1))
    x = torch.randn(4, 3, 16, 16)
    expected = model.eval()(x)
    names = list(model.state_dict())
    model.compile()
    found = model(x)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.hidden["group2.block0"], expected.hidden["group2.block0"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"depth": 27}, {"depth": 4}, {"width": 0}, {"dropout": 1.0}])
def test_bad_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WideResNetConfig(**wrong)
