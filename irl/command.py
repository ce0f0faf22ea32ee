"""What every command shares: logging to a file beside the screen, and errors of one line."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterable

from irl.errors import UserError
from irl.version import __version__

logger = logging.getLogger("irl")
# "Temporary failure, try again" (sysexits.h): what a job that should be queued again ends with.
REQUEUE = 75


class Requeue(Exception):
    """A run was asked to stop, by preemption or before its time is up, and has saved its state."""


def run_command(main: Callable[[], None]) -> None:
    """Run an entry point. UserError and full disks give one line and status 1, Ctrl-C one line and status 130, a signal
    that asks a training to make room one line and status 75."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error.strerror}")
    except Requeue as request:
        print(f"{request}; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)


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
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(file)


def progress(items: Iterable[Any] | None, what: str, **settings: Any) -> Any:
    """A progress bar with rate and time left; in a log file one line every 10 s."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(items, desc=what, mininterval=0.5 if terminal else 10, dynamic_ncols=terminal, **settings)


def resident_mb() -> float:
    """Memory of this process and its children (the loader's workers) in MB, shared pages counted once; NaN where
    /proc does not tell."""
    try:
        children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in ("self", *children)]
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:")) / 1024


def versions() -> dict[str, str]:
    """What a result was made with, as far as installed."""
    found = {"irl": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "espnet", "lightning-fabric"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def commit() -> str:
    """The commit of the working tree, or "unknown" outside a checkout; with -dirty if tracked files differ from it,
    other than what runs and people write about them: results and Markdown."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    changed = ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!egs/*/results/*", ":!*.md")
    try:
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if git(*changed) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
