"""The commands: one file each, run as `irl NAME ...` or `python -m irl.bin.NAME ...`."""

import os
import signal
import sys


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


# Imports take seconds and have nothing to lose, so Ctrl-C ends them at once, in one line; `run_command` takes over from
# here. Only as a command: whoever imports this package keeps Python's handler.
_command = sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "irl"
if _command and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, _leave)
