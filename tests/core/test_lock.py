import os
import signal
import socket
import subprocess
import sys

import pytest
from tiny import ENV

from irl.core import lock
from irl.core.errors import UserError

# A process number beyond the kernel's highest.
DEAD = f"process 99999999 on {socket.gethostname()} since 2026-01-02 03:04:05\n"


def test_one_holds_a_lock_and_the_other_hears_who(tmp_path):
    path = tmp_path / "exp/lock"
    with lock.held(path, "wait for it"):
        message = rf"exp: in use by process {os.getpid()} on \S+ since .*; wait for it"
        with pytest.raises(UserError, match=message), lock.held(path, "wait for it"):
            pass
        with pytest.raises(UserError, match=message):
            lock.check_free(path, "wait for it")
        with lock.held(path, "another rank of the same run", needed=False):
            pass
    lock.check_free(path, "")
    lock.check_free(tmp_path / "never taken", "")
    with lock.held(path, ""):
        pass
    assert path.read_text() == ""


def test_the_lock_of_a_killed_process_is_taken_over_with_a_line(tmp_path, caplog):
    path = tmp_path / "lock"
    path.write_text(DEAD)
    with lock.held(path, ""):
        assert f"process {os.getpid()} on " in path.read_text()
    assert "taken over from process 99999999 on " in caplog.text and "2026-01-02 03:04:05" in caplog.text


def test_children_of_a_killed_holder_are_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    child = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", child, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    path.write_text(DEAD)
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    with pytest.raises(UserError, match="in use by process 99999999"), lock.held(path, ""):
        pass
    monkeypatch.setattr(lock, "PATIENCE", 60)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: process.communicate("\n"))  # the child ends
    with lock.held(path, ""):
        pass


def test_interrupted_imports_of_a_command_are_one_line():
    code = "import os, signal, sys; sys.argv[0] = '-m'; import irl.bin; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "who imports it keeps Python's handler"
