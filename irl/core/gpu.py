"""Whether the kernels in Triton can be used."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor


def kernels_for(x: Tensor) -> Any:
    """The module `irl.core.kernels`, or None: for a tensor on a CPU, where Triton or the C compiler that it needs is
    missing, and under torch.compile, which makes kernels of its own."""
    return _kernels() if x.is_cuda and not torch.compiler.is_compiling() else None


@functools.cache
def _kernels() -> Any:
    try:
        from irl.core import kernels

        one = torch.ones(1, dtype=torch.int64, device="cuda")
        kernels.philox(one, one, 0, 1)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        logging.getLogger("irl").warning(f"kernels in Triton cannot be used, torch's do the same more slowly: {why}")
        return None
    return kernels
