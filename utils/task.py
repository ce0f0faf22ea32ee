#!/usr/bin/env python3
"""What a node does for one job of utils/slurm.py: task.py FILE. sbatch copies it, so it stands alone.

FILE names directory, log and command. The log goes on where the job was begun before. Slurm's signal before preemption
or the end of a job's time is passed on; a command that ends with status 75, as training does after it has saved, puts
the job into the queue again. So does one that dies of the signal, before it has begun to listen or because it never
does: a few times, for it may be one that never ends in its time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

REQUEUE = 75  # irl.core.errors.REQUEUE
RESTARTS = 10


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "") if job["numbered"] else ""
    insert = lambda text: re.sub(r"\bJOB\b", number, text) if number else text  # noqa: E731
    os.chdir(job["directory"])
    command = [insert(arg) for arg in job["command"]]
    now = lambda: time.strftime("%Y-%m-%d %H:%M:%S")  # noqa: E731
    with open(insert(job["log"]), "a", encoding="utf-8") as log:
        # A node of a cluster may bear another name than its machine.
        host = os.environ.get("SLURMD_NODENAME", socket.gethostname())
        log.write(f"# {host} {now()}\n# {shlex.join(command)}\n")
        log.flush()
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            log.write(f"{command[0]}: {error.strerror}\n# {now()} ended with status 127\n")
            sys.exit(127)
        passed_on = []

        def pass_on(signum: int, frame: object) -> None:
            passed_on.append(signum)
            process.send_signal(signum)

        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, pass_on)
        status = process.wait()
        # srun adds 128.
        died = any(status in (-signum, 128 + signum) for signum in passed_on if signum != signal.SIGINT)
        if status == REQUEUE or died and int(os.environ.get("SLURM_RESTART_COUNT", 0)) < RESTARTS:
            log.write(f"\n# {now()} asked to be queued again\n")
            log.flush()
            own = os.environ["SLURM_JOB_ID"]
            subprocess.run(["scontrol", "requeue", own], stdout=log, stderr=log, check=True)
            # Slurm ends this job now; its end here would be taken for the job's.
            time.sleep(60)
        log.write(f"\n# {now()} ended with status {status}\n")
    sys.exit(status if 0 <= status < 256 else 1)


if __name__ == "__main__":
    main()
