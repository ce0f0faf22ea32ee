"""How every command reads its options, writes its output and ends."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from irl.core.arguments import Parser, natural, positive
from irl.core.errors import UserError, run_command
from irl.core.logging import log_to, logger
from irl.core.machine import device_named, installed, set_threads

ROOT = Path(__file__).parents[2]


def test_help_shows_every_default():
    parser = Parser(prog="irl x")
    parser.add_argument("--size", type=positive, default=16)
    parser.add_argument("--share", type=float, default=0.0, help="of all, in %%")
    parser.add_argument("--kinds", nargs="+", default=["a", "b"], help="kinds")
    parser.add_argument("--out", help="folder; default: beside it")
    parser.add_argument("--flag", action="store_true", help="a flag")
    text = " ".join(parser.format_help().split())
    for shown in (
        "--size SIZE (default: 16)",
        "of all, in % (default: 0.0)",
        "kinds (default: a b)",
        "beside it --flag",
    ):
        assert shown in text
    assert text.count("default") == 4


def test_all_commands_share_the_parser():
    scripts = [*(ROOT / "irl").rglob("*.py"), *(ROOT / "egs").rglob("*.py"), ROOT / "tools/download.py"]
    found = {path.name for path in scripts if re.search(r"argparse\.ArgumentParser\(\w*[^)]", path.read_text())}
    assert found <= {"arguments.py"}


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [(positive, "0", False), (positive, "-1", False), (positive, "1", True), (natural, "-1", False),
     (natural, "0", True), (positive, "1.5", False), (positive, "9" * 30, True), (natural, "", False)],
)  # fmt: skip
def test_whole_numbers(kind, text, right, capsys):
    parser = Parser(prog="irl x")
    parser.add_argument("--size", type=kind)
    if right:
        assert parser.parse_args(["--size", text]).size == int(text)
        return
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--size", text])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: argument --size: expected a whole number >= ") and repr(text) in error


def test_devices_and_threads_that_are_not_there(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(device_named("")) == "cpu" and str(device_named("cuda", here=False)) == "cuda"
    for name in ("gpu", "cuda:x", "mps", "-1"):
        with pytest.raises(UserError, match="--device: expected cpu, cuda or cuda:NUMBER, found"):
            device_named(name)
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU on this machine"):
        device_named("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(device_named("")) == "cuda" and str(device_named("cuda:1")) == "cuda:1"
    with pytest.raises(UserError, match="this machine has 2 GPUs"):
        device_named("cuda:2")
    with pytest.raises(UserError, match="--threads: expected at most .*, the cores of this machine, found 100000"):
        set_threads(100000, "--threads")
    assert installed("torch") and not installed("no_such_package")


def output(encoding):
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding)


def test_a_terminal_without_the_sign(monkeypatch):
    raw, stream = output("ascii")
    monkeypatch.setattr("sys.stdout", stream)
    run_command(lambda: print("3.0 ±0.3"))
    assert raw.getvalue() == b"3.0 \\xb10.3\n"
    raw, stream = output("utf-8")
    monkeypatch.setattr("sys.stdout", stream)
    run_command(lambda: print("±"))
    assert raw.getvalue().decode() == "±\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_and_log_on_a_full_disk(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit, match="^error: No space left on device$"):
            run_command(lambda: print("x"))
    log_to(Path("/dev/full"))
    try:
        with pytest.raises(UserError, match="^/dev/full: cannot be written: No space left on device$"):
            logger.info("a line")
    finally:
        log_to()


def test_a_reader_that_has_enough(monkeypatch):
    begin, end = os.pipe()
    os.close(begin)
    with os.fdopen(end, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(SystemExit) as ended:
            run_command(lambda: print("x"))
    assert ended.value.code == 1


@pytest.mark.parametrize(
    ("work", "status", "written"),
    [("print('work')", 0, "work\nhandler\n"), ("raise UserError('bad')", 1, "handler\nPython's own\n")],
)
def test_a_command_that_has_done_its_work_leaves_quickly(work, status, written):
    """All that was asked for at the exit is done; what Python does after it, to take modules apart, is left out."""
    script = f"""
import atexit, gc, sys
atexit.register(print, "Python's own")
sys.argv[0] = "-m"
import irl.bin
from irl.core.errors import UserError, run_command
assert not gc.isenabled()
atexit.register(print, "handler")
def main():
    assert gc.isenabled()
    {work}
run_command(main)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, written), done.stderr
