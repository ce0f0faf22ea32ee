#!/usr/bin/env python3
"""Run jobs on this machine, called as Kaldi's run.pl:

    run.py [--max-jobs-run N] [--ranks N] [JOB=1:N] LOG COMMAND [ARG ...]

With --ranks a job is that many processes that know of each other, through torchrun. JOB in LOG and in each ARG stands
for the job's number. Nothing passes through a shell. Each log begins with host, time and command and ends with time and
exit status; if a job fails the last lines of its log are shown, and the status is 1. Options of the other dispatchers
(--mem, --gpu, --num-threads, --time) are taken and have no meaning here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import jobs

IGNORED = ("--mem", "--gpu", "--num-threads", "--time")


class Job:
    """One command with its log."""

    def __init__(self, log: Path, command: list[str]) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w") as file:
            jobs.begin(file, command)
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            except OSError as error:
                jobs.fail(f"{command[0]}: {error.strerror}")

    def finish(self) -> int:
        with open(self.log, "a") as file:
            jobs.end(file, self.process.returncode)
        return self.process.returncode


def main() -> NoReturn:
    asked = jobs.parse(sys.argv[1:], IGNORED)
    waiting, running, failed = list(asked.numbers), [], []
    limit = asked.at_once or len(waiting)
    # Default SIGINT would leave children to finish; they get it from the terminal as well, and are waited for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reports = jobs.Reports(len(waiting))
    several = ["torchrun", "--no-python", "--standalone", f"--nproc-per-node={asked.ranks}"] if asked.ranks > 1 else []
    try:
        while waiting or running:
            while waiting and len(running) < limit and not failed:
                number = waiting.pop(0)
                running.append(Job(asked.log_of(number), several + asked.command_of(number)))
            time.sleep(0.1)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                if job.finish():
                    failed.append(job)
            if failed and not running:
                break
            reports.tell(reports.total - len(waiting) - len(running), [job.log for job in running])
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            job.process.wait()
    jobs.finish([job.log for job in failed])


if __name__ == "__main__":
    jobs.run(main)
