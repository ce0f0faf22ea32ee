import pytest
import torch

from irl.core.machine import computes_bf16, device_name


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_a_processor_computes_bf16_if_it_says_so(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_bf16("cpu") is expected


def test_a_processor_of_an_old_torch_is_not_asked(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert computes_bf16("cpu") is False


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_computes_bf16_if_it_does_not_emulate_it(monkeypatch, supported):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert computes_bf16("cuda") is supported


def test_the_name_of_a_device_says_its_precision():
    cpu = torch.device("cpu")
    assert [device_name(cpu), device_name(cpu, "bf16-mixed")] == ["cpu", "cpu, bf16-mixed"]
