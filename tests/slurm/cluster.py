#!/usr/bin/env python3
"""A Slurm of two nodes on this one machine, for tests and for trying things out: cluster.py start|stop FOLDER

No systemd, no cgroups, no database, nothing outside FOLDER, no need to be root. After `start`, `. FOLDER/env` lets
sbatch, squeue and scancel find it. Partitions: main, and urgent, whose jobs take nodes from those of main after a
warning. Needs Debian's slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NODES, CPUS = 2, 2
TOOLS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "squeue", "scancel", "scontrol")
CONF = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,requeue_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PropagateResourceLimits=NONE
KillWait=5
SlurmdTimeout=10
ReturnToService=2
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ALL State=UP PriorityTier=9 PreemptMode=OFF
"""


def missing() -> list[str]:
    return [tool for tool in TOOLS if not shutil.which(tool, path=search_path())]


def search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": search_path(), "SLURM_CONF": str(folder / "slurm.conf")}


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def launch(folder: Path, name: str, *command: str) -> None:
    """In a session of its own; its process number is in FOLDER/pid.NAME."""
    with open(folder / "log" / f"{name}.out", "ab") as out:
        process = subprocess.Popen(
            command, env=environment(folder), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    (folder / f"pid.{name}").write_text(str(process.pid))


def start_node(folder: Path, node: int) -> None:
    (folder / f"spool-node{node}").mkdir(exist_ok=True)
    launch(folder, f"node{node}", "slurmd", "-D", "-N", f"node{node}")


def start(folder: Path, wait: float = 30.0) -> None:
    """Returns when all nodes are idle. Raises RuntimeError where they do not come up."""
    if missing():
        raise RuntimeError(f"not installed: {', '.join(missing())} (slurmctld, slurmd, slurm-client, munge)")
    folder = folder.resolve()
    for part in ("log", "state"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(512))
    host = socket.gethostname().partition(".")[0]
    ports = free_ports(1 + NODES)
    lines = [CONF.format(host=host, port=ports[0], user=getpass.getuser(), folder=folder)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    for node, port in enumerate(ports[1:], 1):
        place = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.append(f"NodeName=node{node} {place} CPUs={CPUS} RealMemory={memory}\n")
    (folder / "slurm.conf").write_text("".join(lines))
    (folder / "env").write_text(f"export SLURM_CONF='{folder}/slurm.conf' PATH=$PATH:/usr/sbin\n")
    paths = [
        f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file", "log-file")
    ]
    launch(folder, "munged", "munged", "--foreground", "--force", f"--key-file={key}", *paths)
    until = time.monotonic() + wait
    while not (folder / "munge.socket").exists() and time.monotonic() < until:
        time.sleep(0.05)
    launch(folder, "slurmctld", "slurmctld", "-D", "-i")
    for node in range(1, NODES + 1):
        start_node(folder, node)
    while len(idle(folder)) < NODES:
        if time.monotonic() > until:
            raise RuntimeError(f"Slurm has not come up in {wait:.0f} s; see {folder}/log")
        time.sleep(0.2)


def idle(folder: Path) -> list[str]:
    command = ["sinfo", "--noheader", "--partition=main", "--states=idle", "--Node", "--format=%N"]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
    return done.stdout.split()


def end(folder: Path, name: str, how: signal.Signals = signal.SIGTERM) -> None:
    """One of the daemons: munged, slurmctld, node1, ..."""
    file = folder / f"pid.{name}"
    if not file.exists():
        return
    pid = int(file.read_text())
    file.unlink()
    try:
        os.kill(pid, how)
        for _ in range(100):
            # A child of ours stays as long as nobody asks for its end.
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop(folder: Path) -> None:
    folder = folder.resolve()
    if (folder / "slurm.conf").exists() and (folder / "pid.slurmctld").exists():
        subprocess.run(
            ["scancel", "--user", getpass.getuser()], env=environment(folder), capture_output=True, timeout=20
        )
        time.sleep(1)
    for name in [*(f"node{n}" for n in range(1, NODES + 1)), "slurmctld", "munged"]:
        end(folder, name)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit("expected: cluster.py start|stop FOLDER")
    try:
        {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]))
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    if sys.argv[1] == "start":
        print(f"up; . {Path(sys.argv[2]).resolve()}/env")
