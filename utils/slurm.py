#!/usr/bin/env python3
"""Run jobs on a Slurm cluster, called as Kaldi's slurm.pl:

    slurm.py [--max-jobs-run N] [--ranks N] [--nodes N] [--gpu N] [--mem 4G] [--num-threads N] [--time 12:00:00]
             [--partition P] [JOB=1:N] LOG COMMAND [ARG ...]

The jobs are one array. A job of several ranks or nodes is begun by srun, --ranks processes on each of its nodes;
--num-threads is of each of them, --gpu and --mem are of a node. Nothing passes through a shell: the command goes to the
nodes as a file, LOG's folder/q/*.json. Waits until all have ended, shows what the running ones last wrote and the end
of the logs of those that failed, and then has status 1. Jobs whose node goes down, that are preempted, or that end with
status 75 are queued again by themselves. Ctrl-C and SIGTERM cancel what was submitted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import jobs

RESOURCES = {
    "--gpu": "--gres=gpu:{}",
    "--mem": "--mem={}",
    "--num-threads": "--cpus-per-task={}",
    "--time": "--time={}",
    "--partition": "--partition={}",
    "--nodes": "--nodes={}",
}
# Seconds before preemption, or the end of a job's time, at which it is told to save.
GRACE = 60
POLL = 2.0


def submit(asked: jobs.Jobs) -> str:
    """The number of the job or array."""
    logs = [asked.log_of(number) for number in asked.numbers]
    queue = logs[0].parent / "q"
    queue.mkdir(parents=True, exist_ok=True)
    for log in logs:
        # An old one's end would be taken for that of the new.
        log.unlink(missing_ok=True)
    name = Path(asked.log).name.replace(".JOB", "").removesuffix(".log")
    file = queue / f"{name}.json"
    numbered = asked.numbers != [""]
    several = asked.ranks > 1 or asked.resources.get("--nodes", "1") != "1"
    # One process that ends ends them all, but those that were asked to make room end by themselves, with status 75.
    srun = ["srun", "--kill-on-bad-exit=0", "--wait=20", f"--cpus-per-task={asked.resources.get('--num-threads', '1')}"]
    command = [*srun, *asked.command] if several else asked.command
    job = {"directory": str(Path.cwd()), "log": asked.log, "command": command, "numbered": numbered}
    file.write_text(json.dumps(job) + "\n", encoding="utf-8")
    options = [f"--job-name={name}", "--requeue", f"--signal=B:USR1@{GRACE}", "--open-mode=append"]
    options.append("--output=" + str(queue / f"{name}.out").replace("%", "%%"))
    if several:
        options.append(f"--ntasks-per-node={asked.ranks}")
    if numbered:
        limit = f"%{asked.at_once}" if asked.at_once else ""
        options.append(f"--array={asked.numbers[0]}-{asked.numbers[-1]}{limit}")
    options += [
        RESOURCES[option].format(value)
        for option, value in asked.resources.items()
        if (option, value) != ("--gpu", "0")
    ]
    script = Path(__file__).resolve().with_name("task.py")
    sbatch = ["sbatch", "--parsable", *options, str(script), str(file.resolve())]
    try:
        done = subprocess.run(sbatch, capture_output=True, text=True)
    except FileNotFoundError:
        jobs.fail("no sbatch here; on a machine without Slurm take run.py (cmd.sh)")
    if done.returncode:
        jobs.fail(f"sbatch: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def active(number: str) -> bool:
    """Whether Slurm still has any of these jobs to run or to end. A controller that does not answer may yet."""
    done = subprocess.run(["squeue", "--noheader", "--jobs", number], capture_output=True, text=True)
    if done.returncode:
        return "Invalid job id" not in done.stderr
    return bool(done.stdout.strip())


def main() -> NoReturn:
    asked = jobs.parse(sys.argv[1:], tuple(RESOURCES))
    logs = [asked.log_of(number) for number in asked.numbers]
    number = submit(asked)
    reports, idle = jobs.Reports(len(logs)), 0
    try:
        # Between two lives of a job that is queued again there may be a moment in which it is nowhere.
        while idle < 2:
            time.sleep(POLL)
            idle = 0 if active(number) else idle + 1
            open_logs = [log for log in logs if jobs.ended(log) is None]
            reports.tell(len(logs) - len(open_logs), [log for log in open_logs if log.exists()])
    except BaseException:
        subprocess.run(["scancel", number])
        raise
    jobs.finish([log for log in logs if jobs.ended(log) != 0])


if __name__ == "__main__":
    jobs.run(main)
