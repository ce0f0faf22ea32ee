import json
import os
import time

import pytest
from tiny import run


def write_run(folder, steps, updates=100, age=0.0, seconds=2.0, tail="", saved=False):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"train": {"updates": updates}}))
    lines = [{"step": s, "epoch": s // 50, "total": 1 / s, "seconds": seconds * s} for s in steps]
    lines.append({"step": steps[-1], "epoch": 1, "dev/loss/clean": 0.25, "seconds": seconds * steps[-1]})
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    os.utime(path, (time.time() - age,) * 2)
    if saved:
        (folder / "checkpoint.pt").touch()


def test_runs_and_their_states(tmp_path):
    write_run(tmp_path / "exp/a.1", [20, 40, 60])
    write_run(tmp_path / "exp/b.1", [50, 100], age=7200, saved=True)
    # Killed while it was evaluated for the last time.
    write_run(tmp_path / "exp/b.2", [50, 100], age=7200)
    # Half a line of one that was killed long ago.
    write_run(tmp_path / "exp/deep/c.1", [10, 20], age=7200, tail='{"step": 3')
    (tmp_path / "exp/d.1").mkdir()
    (tmp_path / "exp/d.1/metrics.jsonl").write_text("")
    head, *rows = run("irl.bin.status", "exp", cwd=tmp_path).stdout.splitlines()
    assert head.split() == ["run", "state", "epoch", "update", "loss", "dev", "updates/s", "changed", "left"]
    found = {row.split()[0]: row.split()[1:] for row in rows}
    shown = found["exp/a.1"]
    assert shown[:8] == "running 1 60 / 100 0.01667 0.25 0.5".split() and shown[9:] == "s ago 1 min".split()
    # Nothing is left of it.
    assert found["exp/b.1"][0] == "finished" and found["exp/b.1"][-3:] == ["2.0", "h", "ago"]
    assert found["exp/b.2"][0] == "stopped"
    assert found["exp/deep/c.1"][:4] == ["stopped", "1", "20", "/"]
    assert " ".join(found["exp/d.1"]).startswith("exp/d.1/config.json: cannot be read")


@pytest.mark.parametrize(
    ("folder", "message"), [("none", "none: no such directory"), (".", ".: no training run below")]
)
def test_nothing_to_show(tmp_path, folder, message):
    done = run("irl.bin.status", folder, cwd=tmp_path, check=False)
    assert done.returncode == 1 and f"error: {message}" in done.stderr
