#!/usr/bin/env python3
"""Run jobs on this machine, called as Kaldi's run.pl: run.py [--max-jobs-run N] [JOB=1:N] LOG COMMAND [ARG ...]

JOB in LOG and in each ARG stands for the job's number. Nothing passes through a shell. Each log begins with host, time
and command and ends with time and exit status; if a job fails the last lines of its log are shown, and the status is 1.
Options of Kaldi's other dispatchers (--mem, --gpu, --num-threads, --time) are taken and have no meaning here.
"""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

IGNORED = ("--mem", "--gpu", "--num-threads", "--time")


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def fail(message: str) -> None:
    sys.exit(f"run.py: {message}")


class Job:
    """One command with its log."""

    def __init__(self, number: str, log: str, command: list[str]) -> None:
        self.number = number
        self.log = Path(re.sub(r"\bJOB\b", number, log)) if number else Path(log)
        self.command = [re.sub(r"\bJOB\b", number, arg) if number else arg for arg in command]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "w") as file:
            file.write(f"# {socket.gethostname()} {now()}\n# {shlex.join(self.command)}\n")
            file.flush()
            try:
                self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            except OSError as error:
                fail(f"{self.command[0]}: {error.strerror}")

    def finish(self) -> int:
        """Exit status, None while the job runs; the log is closed once."""
        with open(self.log, "a") as file:
            file.write(f"\n# {now()} ended with status {self.process.returncode}\n")
        return self.process.returncode

    def last_line(self) -> str:
        """The newest line or progress bar of the log, as far as it is short."""
        with open(self.log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 1000))
            lines = re.split(r"[\r\n]+", file.read().decode(errors="replace"))
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:100]

    def show(self) -> None:
        lines = re.split(r"[\r\n]+", self.log.read_text(errors="replace"))
        print(f"run.py: failed, the end of {self.log}:", file=sys.stderr)
        for line in lines[-12:]:
            print(f"  {line}", file=sys.stderr)


def parse(args: list[str]) -> tuple[int, list[str], str, list[str]]:
    """(jobs at once, job numbers, log, command)."""
    limit, first, last = 0, 0, -1
    while args and (args[0].startswith("--") or re.fullmatch(r"JOB=.*", args[0])):
        option = args.pop(0)
        span = re.fullmatch(r"JOB=(\d+):(\d+)", option)
        if span:
            first, last = int(span[1]), int(span[2])
        elif option == "--max-jobs-run" and args and args[0].isdigit():
            limit = int(args.pop(0))
        elif option in IGNORED and args:
            args.pop(0)
        else:
            fail(f"cannot use {option}; expected [--max-jobs-run N] [JOB=1:N] LOG COMMAND [ARG ...]")
    if len(args) < 2:
        fail("expected LOG COMMAND [ARG ...]")
    numbers = [str(n) for n in range(first, last + 1)] if last >= 0 else [""]
    if len(numbers) > 1 and "JOB" not in args[0]:
        fail(f"{args[0]}: the log of several jobs must have JOB in its name")
    return limit or len(numbers), numbers, args[0], args[1:]


def main() -> None:
    limit, waiting, log, command = parse(sys.argv[1:])
    total, running, failed = len(waiting), [], []
    # Default SIGINT would leave children to finish; they get it from the terminal as well, and are waited for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    terminal, told, begin = sys.stderr.isatty(), time.monotonic(), time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < limit and not failed:
                running.append(Job(waiting.pop(0), log, command))
            time.sleep(0.1)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                if job.finish():
                    failed.append(job)
            if failed and not running:
                break
            if time.monotonic() - told > (2 if terminal else 20) and running:
                told = time.monotonic()
                done = total - len(waiting) - len(running)
                head = f"  {done}/{total} done, {told - begin:.0f} s"
                states = [f"{job.log.stem}: {job.last_line()}" for job in running]
                print("\n".join([head, *(f"    {state}" for state in states)]), file=sys.stderr)
                if terminal:
                    # The next report overwrites this one.
                    print(f"\x1b[{len(states) + 1}A\x1b[J", end="", file=sys.stderr)
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            job.process.wait()
    for job in failed:
        job.show()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("run.py: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
