"""Logging to a file beside the screen, progress bars, and the memory of a run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, Iterable

from irl.core.errors import UserError

logger = logging.getLogger("irl")


class _File(logging.FileHandler):
    """A line that cannot be written, say on a full disk, ends the command in one line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.path = path

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
        super().handleError(record)


class _Screen(logging.Handler):
    """Writes above progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def log_to(path: Path | None = None) -> None:
    """Log to the screen and, if given, append to a file."""
    logger.setLevel(logging.INFO)
    logger.handlers.clear()
    screen = _Screen()
    screen.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(screen)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _File(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(file)


def progress(items: Iterable[Any] | None, what: str, **settings: Any) -> Any:
    """A progress bar with rate and time left; in a log file one line every 10 s."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(items, desc=what, mininterval=0.5 if terminal else 10, dynamic_ncols=terminal, **settings)


def say(text: str) -> None:
    """A line of the output, above progress bars instead of through them."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def resident_mb() -> float:
    """Memory of this process and its children (the loader's workers) in MB, shared pages counted once; NaN where
    /proc does not tell."""
    try:
        children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in ("self", *children)]
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:")) / 1024
