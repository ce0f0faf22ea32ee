"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from irl.training.distributed import all_reduce_max


class StopSignals:
    """Inside this context SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal has gone) and SIGUSR1 (Slurm's warning before
    it ends a job) only set a flag. Under nohup SIGHUP stays ignored.

    The update in progress finishes, so that the checkpoint written next is exact.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        heard = [s for s in self.SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
        self._handlers = {signum: signal.signal(signum, self._receive) for signum in heard}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum

    def in_any_process(self) -> int:
        """The number of the signal, 0 for none. All processes get the same answer at the same update, also where one of
        them alone was signalled, or each at another update."""
        return all_reduce_max(self.received)
