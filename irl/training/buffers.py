"""A copy of a module's buffers, for an update that must be undone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BufferCopies:
    """Copies of a module's buffers, such as running statistics of batch norm, which it must change in place only. Those
    of one type are copied at once: many small copies would cost a GPU more to launch than to do."""

    def __init__(self, module: nn.Module) -> None:
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self.groups = [(buffers, [torch.empty_like(x) for x in buffers]) for buffers in by_type.values()]

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the buffers as they are now."""
        for buffers, copies in self.groups:
            torch._foreach_copy_(copies, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the buffers the values that were kept."""
        for buffers, copies in self.groups:
            torch._foreach_copy_(buffers, copies)
