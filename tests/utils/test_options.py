"""Options of run.sh that are paths, and names."""

import os
import subprocess

import pytest
from recipes import ENV, ROOT, copy

SCRIPT = f"""#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")"
source="" results="" test_dirs="" name=""
paths="source results test_dirs"
. {ROOT}/utils/parse_options.sh
printf '%s\\n' "$source" "$results" "$test_dirs" "$name"
"""


@pytest.fixture
def options(tmp_path):
    """A script in tmp_path/egs, with a folder conf beside it; the user stands in tmp_path/here, or beside it."""
    for folder in ("egs/conf", "here/data x"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "egs" / "run.sh").write_text(SCRIPT)

    def run(*words, beside=False):
        where, script = ("egs", "./run.sh") if beside else ("here", "../egs/run.sh")
        done = subprocess.run(["bash", script, *words], cwd=tmp_path / where, capture_output=True, text=True)
        return done.stdout.splitlines() if done.returncode == 0 else done.stderr

    return run


def test_paths_are_taken_from_where_the_user_stands(options, tmp_path):
    here = f"{tmp_path}/here"
    assert options("--source", "data x", "--name", "data") == [f"{here}/data x", "", "", "data"]
    assert options("--results", "new.jsonl") == ["", f"{here}/new.jsonl", "", ""]
    assert options("--source", "/a", "--test-dirs", "a  b/c /d") == ["/a", "", f"{here}/a {here}/b/c /d", ""]
    # What is only beside the script, such as its configurations, needs no other path.
    assert options("--source", "conf") == ["conf", "", "", ""]
    # What the script will make there, before and after it is made.
    assert options("--test-dirs", "data/mine/dev") == ["", "", "data/mine/dev", ""]


def test_paths_stay_as_they_are_beside_the_script(options):
    assert options("--source", "a b", "--test-dirs", "a b", beside=True) == ["a b", "", "a b", ""]
    assert options("--source", "-x", beside=True) == ["./-x", "", "", ""]
    found = options("--source", "a\nb")
    assert "--source: expected a path without line breaks, found $'a\\nb'" in found and found.count("\n") == 1


@pytest.mark.parametrize("name", ["x #1", "a: b", "a\nb", "JOB", "a.JOB", "{1}", "-x", "../x", "a/b"])
def test_names_that_would_break_are_refused_in_one_line(tmp_path, name):
    egs = copy("ptb", tmp_path)
    done = subprocess.run(["./run.sh", "--name", name], cwd=egs, env=ENV, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "--name: expected letters, digits and . _ + -, but not JOB, found" in done.stderr
    assert not os.path.exists(egs / "exp")
