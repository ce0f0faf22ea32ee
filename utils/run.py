#!/usr/bin/env python3
"""Run jobs on this machine, called as Kaldi's run.pl:

    run.py [--max-jobs-run N] [--ranks N] [JOB=1:N] LOG COMMAND [ARG ...]

With --ranks a job is that many processes that know of each other, as torchrun begins them, but the error of the one
that failed is the end of the log, and the status 75 of those that have saved is the job's. Where this machine has
several GPUs, or CUDA_VISIBLE_DEVICES names several, a job of one process sees one of them, the least used. JOB in LOG
and in each ARG stands for the job's number. Nothing passes through a shell. Each log begins with host, time and command
and ends with time and exit status; if a job fails the last lines of its log are shown, and the status is 1. Options of
the other dispatchers (--mem, --gpu, --num-threads, --time) are taken and have no meaning here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import jobs

# Seconds that the other processes of a job have when one has failed, before they are told, and then made, to end.
GRACE = 20.0
IGNORED = ("--mem", "--gpu", "--num-threads", "--time")


class Job:
    """One command with its log."""

    def __init__(self, log: Path, command: list[str], ranks: int, gpu: str) -> None:
        self.log, self.gpu = log, gpu
        self.failed = 0.0  # when the first of its processes did
        self.processes = []
        with jobs.writing(log, "w") as file:
            jobs.begin(file, command)
            for environment in environments(ranks, gpu):
                try:
                    process = subprocess.Popen(
                        command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
                    )
                except OSError as error:
                    jobs.fail(f"{command[0]}: {error.strerror}")
                self.processes.append(process)

    def ended(self) -> bool:
        """Whether all processes have. Where one has failed the others soon find out, and are ended if they do not."""
        codes = [process.poll() for process in self.processes]
        if any(codes) and not self.failed:
            self.failed = time.monotonic()
        if self.failed and time.monotonic() - self.failed > GRACE:
            self.end(kill=time.monotonic() - self.failed > 2 * GRACE)
        return None not in codes

    def end(self, kill: bool = False) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill() if kill else process.terminate()

    def finish(self) -> int:
        codes = [process.wait() for process in self.processes]
        # An error before a request to be queued again, which the others may have been left with.
        status = next((code for code in codes if code not in (0, jobs.REQUEUE)), max(codes))
        with jobs.writing(self.log, "a") as file:
            jobs.end(file, status)
        return status


def gpus() -> list[str]:
    """The GPUs that jobs share out: those of CUDA_VISIBLE_DEVICES or, if it is not set, of this machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return [name for name in named.split(",") if name]


def environments(ranks: int, gpu: str) -> list[dict[str, str]]:
    """For each process of a job; of several they say, as torchrun's, which it is and where they meet. gpu: of a job of
    one process; several find their own."""
    if ranks == 1:
        return [{**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    own = [{**shared, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0} for rank in range(ranks)]
    return [{**os.environ, **{name: str(value) for name, value in each.items()}} for each in own]


def main() -> NoReturn:
    asked = jobs.parse(sys.argv[1:], IGNORED)
    waiting, running, failed = list(asked.numbers), [], []
    limit, found = asked.at_once or len(waiting), gpus()
    reports = jobs.Reports(len(waiting))
    try:
        while waiting or running:
            while waiting and len(running) < limit and not failed:
                number = waiting.pop(0)
                taken = [job.gpu for job in running]
                gpu = min(found, key=taken.count) if len(found) > 1 else ""
                running.append(Job(asked.log_of(number), asked.command_of(number), asked.ranks, gpu))
            time.sleep(0.1)
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                if job.finish():
                    failed.append(job)
            if failed and not running:
                break
            reports.tell(reports.total - len(waiting) - len(running), [job.log for job in running])
    finally:
        for job in running:
            job.end()
        for job in running:
            for process in job.processes:
                process.wait()
    jobs.finish([job.log for job in failed])


if __name__ == "__main__":
    jobs.run(main)
