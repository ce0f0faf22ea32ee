"""Commands in one process, or in several that train together as torchrun begins them, but forked from this one:
importing takes longer than most of them."""

import itertools
import logging
import multiprocessing
import os
import time

from tiny import run

from irl.core.logging import logger

# Below the ports that systems give out by themselves, and apart for each test process: a port that was free a moment
# ago may be somebody else's now.
PORTS = itertools.count(10000 + os.getpid() % 1000 * 20)


def begin(of, module, *args, cwd, before=None):
    """The processes, and a queue of (rank, Done). before: called in each with its rank."""
    port = next(PORTS)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work(rank):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0}
        sizes = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": of, "LOCAL_WORLD_SIZE": of}
        if of > 1:
            os.environ.update({name: str(value) for name, value in {**shared, **sizes}.items()})
        # What earlier commands in this process have left.
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)
        if before:
            before(rank)
        done = run(module, *args, cwd=cwd, check=False)
        queue.put((rank, done))

    processes = [context.Process(target=work, args=(rank,)) for rank in range(of)]
    for process in processes:
        process.start()
    return processes, queue


def ends(processes, queue, count=None, seconds=120):
    """(rank, Done) of so many processes, or of all, as they end. Fails where they do not in time."""
    until = time.monotonic() + seconds
    try:
        for _ in range(len(processes) if count is None else count):
            while queue.empty():
                assert time.monotonic() < until, f"not all processes have ended after {seconds} s"
                time.sleep(0.01)
            yield queue.get()
    finally:
        if time.monotonic() >= until:
            for process in processes:
                process.kill()


def run_ranks(of, module, *args, cwd, before=None, check=True):
    """What each process ended with, in the order of ranks."""
    processes, queue = begin(of, module, *args, cwd=cwd, before=before)
    found = dict(ends(processes, queue))
    for done in found.values():
        assert done.returncode == 0 or not check, done.stderr
    return [found[rank] for rank in range(of)]
