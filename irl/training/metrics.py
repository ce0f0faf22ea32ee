"""What a run reports while it trains: metrics.jsonl, TensorBoard and a progress bar."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from pathlib import Path
from typing import Any, Iterator

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.logging import progress, resident_mb
from irl.core.text_files import read_log
from irl.training.state import RunState


class MetricsWriter:
    """Writes the metrics of a run where `state` has arrived. Of several processes the first one writes."""

    def __init__(self, exp: Path, state: RunState) -> None:
        self.exp, self.state, self.writes = exp, state, state.first
        self.path, self.folder = exp / "metrics.jsonl", exp / "tensorboard"
        self._board: Any = None
        self._bar: Any = None

    @contextlib.contextmanager
    def open(self, stop: int) -> Iterator[None]:
        """Inside this context values can be logged and the bar runs, up to update `stop`."""
        self._truncate()
        bar = progress(None, self.exp.name, total=stop, initial=self.state.step, unit="update", disable=not self.writes)
        with self._tensorboard() as self._board, bar as self._bar:
            yield

    def advance(self) -> None:
        """One more update on the bar."""
        self._bar.update()

    def log_sums(self) -> None:
        """One line of the means since the last such line, with memory and the share of time spent waiting."""
        state = self.state
        means = {name: stat.mean for name, stat in state.stats.items()}
        self.log({**means, "memory_mb": resident_mb(), "waited": state.waited / state.seconds})
        state.stats = {}

    def log(self, values: dict[str, float]) -> None:
        """One line of values by name; what is not finite is left out."""
        if not self.writes:
            return
        state = self.state
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        line = {"step": state.step, "epoch": state.epoch, "rate": state.lr_at(state.step - 1)}
        atomic_io.append(self.path, json.dumps({**line, **values, "seconds": round(state.seconds, 2)}))
        with self._writing_board():
            for name, value in values.items():
                self._board.add_scalar(name, value, state.step)
        if "total" in values:
            self._bar.set_postfix(loss=f"{values['total']:.3f}", skipped=state.skipped, refresh=False)

    def _truncate(self) -> None:
        """Drop the lines of updates after the checkpoint, which will be made again, and damaged lines."""
        if self.writes and self.path.exists():
            kept = [line for line in read_log(self.path) if line.get("step", math.inf) <= self.state.step]
            atomic_io.write(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    @contextlib.contextmanager
    def _tensorboard(self) -> Iterator[Any]:
        if not self.writes:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        # A thread writes. An error that ends it is raised here too, at the next value or at the end, and needs no
        # traceback.
        hook = threading.excepthook
        threading.excepthook = lambda args: None if issubclass(args.exc_type, OSError) else hook(args)
        try:
            with self._writing_board():
                board = SummaryWriter(str(self.folder), purge_step=self.state.step)
            yield board
            with self._writing_board():
                board.close()
        finally:
            threading.excepthook = hook

    @contextlib.contextmanager
    def _writing_board(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written: {error.strerror}") from None
