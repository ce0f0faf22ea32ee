"""What the dispatchers share: Kaldi's calling convention, and logs that say where a job ran and how it ended."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO, Callable, Iterator, NamedTuple, NoReturn

ENDED = "ended with status"
REQUEUE = 75  # irl.core.errors.REQUEUE


class Jobs(NamedTuple):
    """CMD [--max-jobs-run N] [--ranks N] [--gpu N] [--mem 4G] [--num-threads N] [--time 12:00:00] [JOB=1:N] LOG COMMAND
    [ARG ...]

    at_once: how many may run, 0 for any. numbers: of the jobs, [""] for a single one without a number. ranks: of how
    many processes a job consists, on each of its nodes. resources: by name of the option, as they were given.
    """

    at_once: int
    numbers: list[str]
    log: str
    command: list[str]
    ranks: int
    resources: dict[str, str]

    def log_of(self, number: str) -> Path:
        return Path(insert(self.log, number))

    def command_of(self, number: str) -> list[str]:
        return [insert(arg, number) for arg in self.command]


def insert(text: str, number: str) -> str:
    """The number in the place of JOB, where that stands as a word of its own."""
    return re.sub(r"\bJOB\b", number, text) if number else text


def fail(message: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


@contextlib.contextmanager
def writing(log: Path, mode: str) -> Iterator[IO[str]]:
    """A log to write to. Ends in one line where that fails, say on a full disk."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, mode, encoding="utf-8", errors="surrogateescape") as file:
            yield file
    except OSError as error:
        fail(f"{log}: cannot be written: {error.strerror}")


def parse(args: list[str], known: tuple[str, ...]) -> Jobs:
    """known: names of the resources, as "--mem"."""
    limit, ranks, first, last = 0, 1, 0, -1
    resources = {}
    while args and (args[0].startswith("--") or re.fullmatch(r"JOB=.*", args[0])):
        option = args.pop(0)
        span = re.fullmatch(r"JOB=(\d+):(\d+)", option)
        if span:
            first, last = int(span[1]), int(span[2])
        elif option == "--max-jobs-run" and args and args[0].isdigit():
            limit = int(args.pop(0))
        elif option == "--ranks" and args and re.fullmatch(r"[1-9]\d*", args[0]):
            ranks = int(args.pop(0))
        elif option in known and args:
            resources[option] = args.pop(0)
        else:
            options = " ".join(f"[{name} X]" for name in ("--max-jobs-run", "--ranks", *known))
            fail(f"cannot use {option}; expected {options} [JOB=1:N] LOG COMMAND [ARG ...]")
    if len(args) < 2:
        fail("expected LOG COMMAND [ARG ...]")
    numbers = [str(n) for n in range(first, last + 1)] if last >= 0 else [""]
    if len(numbers) > 1 and "JOB" not in args[0]:
        fail(f"{args[0]}: the log of several jobs must have JOB in its name")
    return Jobs(limit, numbers, args[0], args[1:], ranks, resources)


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def begin(file: IO[str], command: list[str]) -> None:
    file.write(f"# {socket.gethostname()} {now()}\n# {shlex.join(command)}\n")
    file.flush()


def end(file: IO[str], status: int) -> None:
    file.write(f"\n# {now()} {ENDED} {status}\n")


def ended(log: Path) -> int | None:
    """The status that a log ends with, None where it has no end."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    found = re.search(rf"{ENDED} (-?\d+)$", lines[-1]) if lines else None
    return int(found[1]) if found else None


def last_line(log: Path) -> str:
    """The newest line or progress bar of a log, as far as it is short."""
    if not log.exists():
        return "waiting"
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 1000))
        lines = re.split(r"[\r\n]+", file.read().decode(errors="replace"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:100]


def finish(failed: list[Path]) -> NoReturn:
    """End, with the end of the log of each job that failed."""
    for log in failed:
        show(log)
    sys.exit(1 if failed else 0)


def run(main: Callable[[], NoReturn]) -> NoReturn:
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(signum, lambda number, _: sys.exit(128 + number))
    try:
        main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))


def show(log: Path) -> None:
    lines = re.split(r"[\r\n]+", log.read_text(errors="replace")) if log.exists() else ["(it was never begun)"]
    print(f"{Path(sys.argv[0]).name}: failed, the end of {log}:", file=sys.stderr)
    for line in lines[-12:]:
        print(f"  {line}", file=sys.stderr)


class Reports:
    """What the running jobs last wrote, every 2 s on a terminal, where each report overwrites the one before, and every
    20 s elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.terminal = total, sys.stderr.isatty()
        self.began = self.told = time.monotonic()

    def tell(self, done: int, running: list[Path]) -> None:
        now = time.monotonic()
        if now - self.told <= (2 if self.terminal else 20) or not running:
            return
        self.told = now
        states = [f"    {log.stem}: {last_line(log)}" for log in running]
        print("\n".join([f"  {done}/{self.total} done, {now - self.began:.0f} s", *states]), file=sys.stderr)
        if self.terminal:
            print(f"\x1b[{len(states) + 1}A\x1b[J", end="", file=sys.stderr)
