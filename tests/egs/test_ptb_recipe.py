"""egs/ptb end to end, in a copy of the recipe; with cold starts of Python, where other recipes have warm ones."""

import pytest
import recipes
from recipes import results_of, run

from irl.core.machine import device_name, device_named

FEW = "train.updates=4 model.units=10 model.embedding_units=10"


@pytest.fixture
def egs(tmp_path):
    return recipes.copy("ptb", tmp_path)


def test_mini_through_all_stages(egs, tmp_path, warm_python):
    options = ["--methods", "baseline irl_loss_blank", "--overrides", FEW]
    out = run("./run.sh", *options, cwd=egs).stdout
    for stage in (0, 1, 3, 4, 5, 6, 7):
        assert f"stage {stage}: " in out
    assert "digest of the corpus: " in out
    lines = results_of(egs / "exp/mini/results.jsonl")
    assert [line["method"] for line in lines] == ["baseline", "irl_loss_blank"]
    for line in lines:
        tokens = [sum(line["conditions"][name]["reference"]) + 1 for name in ("valid", "test")]
        for name, count in zip(("valid", "test"), tokens):
            assert f"data/mini/{name}.txt: {count} tokens" in out
    table = (egs / "exp/mini/report/table.md").read_text()
    assert "Perplexity of a word, with" in table and "| IRL loss, blank - baseline |" in table
    found = (egs / "exp/mini/report/distances.csv").read_text().splitlines()
    assert len(found) == 1 + 2 * 3 and found[1].startswith("baseline.1,embedding,")
    recipes.use(warm_python, tmp_path)
    again = run("./run.sh", *options, "--stage", "3", cwd=egs).stdout
    assert "runs without a result in exp/mini/results.jsonl: 0" in again


@pytest.mark.slow
def test_published_texts_are_counted_and_own_texts_are_taken(egs, tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text("a b c <unk>\n" * 200)
    wrong = run("./run.sh", "--corpus", "ptb", "--source", tmp_path, "--conf", "conf/mini", cwd=egs, check=False)
    assert wrong.returncode == 1 and "ptb.train.txt: 1000 tokens, 929589 are published (-928589)" in wrong.stderr
    texts = [f"--{part}-text={tmp_path}/ptb.{part}.txt" for part in ("train", "valid", "test")]
    own = [word for text in texts for word in text.split("=")]
    options = ["--corpus", "text", *own, "--conf", "conf/mini", "--methods", "baseline", "--overrides", FEW]
    run("./run.sh", *options, cwd=egs)
    (line,) = results_of(egs / "exp/text/results.jsonl")
    assert line["device"] == device_name(device_named(""))
    assert sum(line["conditions"]["test"]["reference"]) == 999
    assert str(tmp_path) not in (egs / "exp/text/results.jsonl").read_text(), "no result tells where the texts lay"
    # Other texts under the same name: the table is theirs, and a second call finds it done.
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text("d e f g h <unk>\n" * 190)
    for missing in (1, 0):
        out = run("./run.sh", *options, "--stop-stage", "6", cwd=egs).stdout
        assert f"runs without a result in exp/text/results.jsonl: {missing}" in out
        (line,) = results_of(egs / "exp/text/results.jsonl")
        assert sum(line["conditions"]["test"]["reference"]) == 190 * 7 - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "brown"], "unknown corpus brown, known are mini ptb ptb_start text wikitext2"),
        (["--corpus", "ptb"], "--corpus ptb needs --source DIR"),
        (["--corpus", "text", "--conf", "conf/mini"], "--corpus text needs --train-text FILE"),
        (["--overrides", "noise.p=2"], "noise.p: expected float in [0, 1], found 2"),
    ],
)
def test_bad_options_are_one_line(egs, tmp_path, warm_python, options, message):
    recipes.use(warm_python, tmp_path)
    done = run("./run.sh", *options, "--stop-stage", "0", cwd=egs, check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
