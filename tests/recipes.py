"""Recipes run as a user runs them, in a copy, so that nothing is written into the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from refusals import note_command

ROOT = Path(__file__).parent.parent
ENV = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def copy(name, folder, python=None):
    """The folder of a copied recipe. python: what its run.sh begins in the place of the installed one."""
    for shared in ("irl", "utils"):
        (folder / shared).symlink_to(ROOT / shared)
    ignore = shutil.ignore_patterns("data", "exp", "results", "__pycache__")
    shutil.copytree(ROOT / "egs" / name, folder / "egs" / name, ignore=ignore)
    use(python, folder)
    return folder / "egs" / name


def use(python, folder):
    """Put a Python where the scripts look for the installed one; None leaves the one that runs the tests."""
    if python:
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/python").symlink_to(python)


def run(*args, cwd, check=True):
    done = subprocess.run([str(a) for a in args], cwd=cwd, env=ENV, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    note_command(args, done)
    return done


def results_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
