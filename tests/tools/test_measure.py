"""tools/docs/measure.py trains what is missing, and makes the page's tables from the lines of finished runs."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from irl.reporting import results

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "docs"))
import measure  # noqa: E402


def test_only_missing_runs_are_made_and_the_table_is_theirs(monkeypatch, tmp_path):
    made = []

    def test(model):
        method, seed = model
        wrong = (np.arange(40) % (4 if method == "irl_loss" else 2) == 0).astype(np.int64)
        return {"none": (0 * wrong + (np.arange(40) < seed), np.ones(40, np.int64)), "gaussian": (wrong, 0 * wrong + 1)}

    example = measure.Example(7, lambda method, seed: made.append((method, seed)) or (method, seed), test)
    monkeypatch.setitem(measure.EXAMPLES, "timm", lambda folder: example)
    monkeypatch.setattr(measure, "HERE", tmp_path)
    measure.measure("timm", tmp_path)
    assert made == [(method, seed) for seed in (1, 2, 3) for method in measure.METHODS]
    path = tmp_path / "results" / "timm.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:4] + lines[5:]) + "\n")
    measure.measure("timm", tmp_path)
    assert made[9:] == [("irl_batching", 2)]
    shutil.copy(measure.PAGE, tmp_path / "page.md")
    measure.tables(tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| IRL loss | 5.0 (" in page and ") ±2.5 | **25.0** (" in page  # 1, 2 and 3 of 40; every fourth
    assert "| IRL loss - IRL batching | +0.0" in page and "| -25.0 (" in page and "7 updates" in page
    measure.tables(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == page


def test_the_committed_tables_are_made_of_the_committed_lines(tmp_path):
    shutil.copy(measure.PAGE, tmp_path / "page.md")
    measure.tables(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == measure.PAGE.read_text()


@pytest.mark.parametrize("path", sorted((measure.HERE / "results").glob("*.jsonl")), ids=lambda p: p.stem)
def test_committed_runs_are_of_clean_commits(path):
    lines = results.read(path, results.SHOWN)
    assert lines and not [line for line in lines if line["commit"] == "unknown" or "dirty" in line["commit"]]
