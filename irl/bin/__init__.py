"""The commands: one file each, run as `irl NAME ...` or `python -m irl.bin.NAME ...`."""

import atexit
import gc
import multiprocessing
import os
import signal
import sys

from irl.core.errors import leave_quickly


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


# Only as a command: whoever imports this package keeps Python's ways.
_command = sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "irl"
# Processes that a command spawns have its name.
_command = _command and multiprocessing.parent_process() is None
# Imports take seconds and have nothing to lose, so Ctrl-C ends them at once, in one line; `run_command` takes over from
# here.
if _command and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, _leave)
# Imported modules live until the end. To search them for garbage and to take them apart would cost another second.
if _command:
    gc.disable()
    atexit.register(leave_quickly)  # before all other handlers, so that it runs after them
