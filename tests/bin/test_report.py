import json
from pathlib import Path

import pytest

from irl.bin import report
from irl.core.errors import UserError
from irl.reporting import results
from irl.reporting.table_config import read_table_config
from irl.training.registry import modality

pytest.importorskip("matplotlib")
SPEECH = modality("speech", "test")
EGS = Path(__file__).parents[2] / "egs"


def line(method, seed, errors, **fields):
    conditions = {
        name: {"reference": [10, 20, 30], "errors": e, "data": "x", "cer": {}, "wer": {}} for name, e in errors.items()
    }
    return {
        "corpus": "toy", "method": method, "seed": seed, "digest": f"{method}{seed}", "commit": "a", "versions": {},
        "train_seconds": 60.0, "updates": 10, "skipped": 0, "config": {"task": "speech", "train": {"clean_updates": 5}},
        "decode": {"search": "joint"}, "conditions": conditions, **fields,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe with the rows and tests of egs/wsj."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "table.yaml").write_text((EGS / "wsj" / "conf" / "table.yaml").read_text())
    return tmp_path


def made(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
    report.main()
    return Path("out/table.md").read_text()


def test_ablations(folder, monkeypatch):
    """Rows in the order of their lines, each tested against IRL batching, with what became of activations on dev."""
    others = [(f"ablations/{i}", 6, 4.0) for i in range(3)]
    rows = [("ablations/l2", 3, 5.0), ("irl_batching", 6, 4.0), ("ablations/cosine", 9, 3.0), ("baseline", 30, 1.0)]
    for method, errors, rank in rows + others:
        dev = {"rank/encoder.0": rank, "rank/decoder.0": rank + 1, "loss/clean": 0.5}
        row = line(method, 1, {"none": [0, 0, errors], "rir": [1, 1, 1], "tel": [1, 1, 1]}, dev=dev)
        results.append(Path("r.jsonl"), row, SPEECH)
    text = made(monkeypatch, "r.jsonl", "--out", "out")
    first = [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")]
    assert first[:5] == ["| method", "| baseline", "| IRL batching", "| l2", "| cosine"]
    # So many methods are drawn as differences, without the far baseline.
    drawn = Path("out/table.svg").read_text()
    assert "difference to IRL batching" in drawn and "<!-- l2 -->" in drawn and "<!-- baseline -->" not in drawn
    assert "| l2 - IRL batching | -5.0 (" in text and "| cosine - IRL batching | +5.0 (" in text
    assert "| l2 |  |  |  | 5.5 |" in text


def test_report(folder, monkeypatch, capsys):
    path = folder / "r.jsonl"
    for seed in (1, 2):
        errors = {"none": [0, 3, 3], "rir": [6, 6, 6], "tel": [9, 9, 12]}
        results.append(path, line("irl_batching", seed, errors), SPEECH)
        errors = {"none": [0, 3, 3 * seed], "rir": [3, 3, 3], "tel": [6, 6, 6]}
        results.append(path, line("irl_loss", seed, errors), SPEECH)
    arguments = (path, "--corpus", "toy", "--out", "out", "--note", "A toy.")
    text = made(monkeypatch, *arguments)
    assert text == capsys.readouterr().out.split("\ntable:")[0]
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| IRL")]
    assert rows[0][0] == "| IRL batching" and rows[0][1].startswith("**10.0** (") and rows[0][1].endswith("±0.0")
    # Seeds 6/60 and 9/60; 9/60 and 18/60 under noise, whose mean is 22.5 %.
    assert rows[1][1].startswith("12.5 (") and rows[1][1].endswith("±3.5") and rows[1][4].startswith("**22.5** (")
    assert "IRL loss - IRL batching" in text and "A toy." in text
    assert Path("out/table.png").stat().st_size > 5000
    drawn = Path("out/table.svg").read_text()
    assert "<!-- condition of the test set -->" in drawn and "<!-- character error rate in % -->" in drawn
    # Another configuration's older line of the same method and seed is not a further seed.
    old = line("irl_loss", 1, {"none": [9, 9, 9], "rir": [9, 9, 9], "tel": [9, 9, 9]}, digest="old")
    lines = path.read_text()
    path.write_text(json.dumps(old) + "\n" + lines)
    assert made(monkeypatch, *arguments) == text
    Path("wanted").write_text(json.dumps({**old, "conditions": ["none"]}) + "\n")
    assert "Seeds: IRL loss 1." in made(monkeypatch, *arguments, "--wanted", "wanted")
    path.write_text(lines + json.dumps(line("baseline", 1, {}, updates=20)) + "\n")
    with pytest.raises(UserError, match="baseline, seed 1: updates is 20, but 10 for irl_batching"):
        made(monkeypatch, *arguments)
    path.write_text(lines + json.dumps(line("baseline", 1, {"none": [0, 0, 0], "rir": [0, 0, 0]})) + "\n")
    with pytest.raises(UserError, match="baseline, seed 1: was not tested on the same utterances in condition tel"):
        made(monkeypatch, *arguments)


def test_several_corpora_need_a_name(folder, monkeypatch):
    for corpus in ("a", "b"):
        results.append(Path("r.jsonl"), line("irl_loss", 1, {"none": [1, 1, 1]}, corpus=corpus), SPEECH)
    with pytest.raises(UserError, match="r.jsonl: --corpus: expected one of a, b"):
        made(monkeypatch, "r.jsonl", "--out", "out")
    assert "| IRL loss |" in made(monkeypatch, "r.jsonl", "--out", "out", "--corpus", "a")
    with pytest.raises(UserError, match="r.jsonl: no result of corpus c"):
        made(monkeypatch, "r.jsonl", "--out", "out", "--corpus", "c")


def test_all_tables_of_a_recipe_are_renewed(folder, monkeypatch, capsys):
    (folder / "results").mkdir()
    for name in ("x", "y"):
        results.append(
            Path(f"results/{name}.jsonl"), line("irl_loss", 1, {"none": [1, 1, 1], "tel": [1, 1, 1]}), SPEECH
        )
    Path("conf/table.yaml").write_text("prefix: toy-\ninsert: [RESULTS.md]\nnotes: {x: Of x., y: Of y.}\n")
    Path("RESULTS.md").write_text("<!-- report toy-x --><!-- end -->\n<!-- table toy-y --><!-- end -->\n")
    monkeypatch.setattr("sys.argv", ["report"])
    report.main()
    assert "toy-x.png: 1 runs" in capsys.readouterr().out
    text = Path("RESULTS.md").read_text()
    assert "Of x." in text and "Of y." not in text and text.count("| irl_loss |") == 2
    files = {f"toy-{name}.{suffix}" for name in "xy" for suffix in ("png", "svg")} | {"x.jsonl", "y.jsonl"}
    assert {path.name for path in Path("results").iterdir()} == files


@pytest.mark.parametrize("recipe", ["wsj", "cifar", "ptb"])
def test_table_of_a_recipe(recipe):
    """Every tested method has a label and a configuration; every note has results."""
    names = read_table_config(EGS / recipe / "conf" / "table.yaml")
    # A method is the path of its file below the folder of a corpus, or of conf/methods.
    conf = EGS / recipe / "conf"
    files = {"/".join(path.relative_to(conf).with_suffix("").parts[1:]) for path in conf.rglob("*.yaml")}
    tested = {method for pair in names.tests for method in pair} | {*names.far_off}
    assert tested <= names.methods.keys() <= files
    assert all((EGS / recipe / "results" / f"{name}.jsonl").exists() for name in names.notes)
