"""An alias of `irl evaluate`."""

from irl.bin.evaluate import main
from irl.core.errors import run_command

if __name__ == "__main__":
    run_command(main)
