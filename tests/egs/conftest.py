"""The Python of the recipes under test."""

import subprocess
import sys
import time

import pytest
from recipes import ENV, ROOT


@pytest.fixture(scope="session")
def warm_python(request, tmp_path_factory):
    """A `python` that has imported already (tests/warm.py); None in make test-all, where recipes begin the real one."""
    if not request.config.option.markexpr:
        yield None
        return
    folder = tmp_path_factory.mktemp("warm")
    program, path, python = ROOT / "tests" / "warm.py", folder / "socket", folder / "python"
    # -I: the environment is the caller's and is passed on; nothing but the standard library is needed to ask.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {program} ask {path} "$@"\n')
    python.chmod(0o755)
    # With the settings of memory and threads that every recipe has.
    line = f". ../../utils/path.sh && exec {sys.executable} {program} serve {path}"
    with subprocess.Popen(["bash", "-c", line], cwd=ROOT / "egs/ptb", env=ENV, stdin=subprocess.PIPE) as server:
        while not path.exists() and server.poll() is None:
            time.sleep(0.05)
        assert path.exists(), "it has not begun"
        yield python
        server.stdin.close()
