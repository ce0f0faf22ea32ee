"""The devices, cores and packages of this machine."""

from __future__ import annotations

import importlib.util
import os

import torch

from irl.core.errors import UserError


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is imported, and has no specification
        return True


def set_threads(threads: int, name: str) -> None:
    """Threads of torch on a CPU, 0 to leave them. name: of the setting, for errors. Raises UserError for more than the
    machine has cores."""
    cores = os.cpu_count() or 1
    if threads > cores:
        raise UserError(f"{name}: expected at most {cores}, the cores of this machine, found {threads}")
    if threads:
        torch.set_num_threads(threads)


def device_name(device: torch.device, precision: str = "32-true") -> str:
    """The name of a GPU, such as "NVIDIA H200"; of anything else its kind, such as "cpu". A precision other than
    float32 follows it: "cpu, bf16-mixed"."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if precision == "32-true" else f"{name}, {precision}"


def computes_bf16(device_type: str) -> bool:
    """Whether this machine's GPU or processor multiplies bfloat16 by itself; others emulate it, slower than float32. Of
    processors those with AVX512-BF16 or AMX, where torch tells (from 2.10 on)."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def device_named(name: str, here: bool = True) -> torch.device:
    """The device that --device names; empty: a GPU where there is one. here: it must be on this machine. Raises
    UserError for a name that is none, and for a device that is not there."""
    there = torch.cuda.is_available()
    if not name:
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: expected cpu, cuda or cuda:NUMBER, found {name!r}")
    if here and device.type == "cuda":
        if not there:
            raise UserError(f"--device {name}: torch finds no GPU on this machine; use --device cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, the first is cuda:0")
    return device
