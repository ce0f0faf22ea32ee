import json
import math
import shutil

import pytest
import torch
import words
from needs import needs
from tiny import metrics, run, same_weights
from torch.nn import functional as F
from words import settings

from irl.core.output import Output
from irl.core.rng import Keys
from irl.language import perplexity
from irl.language.analysis import in_rows
from irl.language.perplexity import read_through, token_losses
from irl.language.task import LanguageTask
from irl.models.lstm_lm import LMState
from irl.noise.text import WordNoise
from irl.reporting.statistics import interval
from irl.training import checkpoint
from irl.training.task import BatchSpec

needs("lightning_fabric")


def total_loss(model, text):
    return sum(token_losses(view, text, chunk).double().sum() for chunk, (view,) in read_through(model, [text]))


def test_batches_read_the_rows_through(inside):
    task = LanguageTask(settings("irl_batching"))
    stream = task.vocabulary.encode(inside / "data/train.txt")
    length = len(stream) // 8
    batches = [task.make(0, BatchSpec(b, True, 1)) for b in range(task.batches_in(0))]
    x, y = (torch.cat([getattr(b, name) for b in batches], dim=1) for name in ("clean", "y"))
    rows = stream[: 8 * length].view(8, length)
    assert torch.equal(x, rows[:, :-1]) and torch.equal(y, rows[:, 1:])
    assert [b.first for b in batches] == [True] + [False] * (len(batches) - 1)
    assert batches[1].ids.tolist() == [row * length + 10 for row in range(8)]


@pytest.mark.parametrize("overrides", [["bptt=7"], ["train.batch_size=4"], ["train.batch_size=2", "bptt=33"]])
def test_noise_belongs_to_places_in_the_text(inside, overrides):
    """The same words are replaced whatever the batch size and the length of a step."""
    found = []
    for extra in ([], overrides):
        task = LanguageTask(settings("unigram", *extra))
        text = {}
        for b in range(task.batches_in(0)):
            batch = task.make(3, BatchSpec(b, True, 2))
            for row, start in enumerate(batch.ids.tolist()):
                for copy, view in enumerate(batch.noisy):
                    text.update({(copy, start + t): int(word) for t, word in enumerate(view[row])})
        found.append(text)
    shared = found[0].keys() & found[1].keys()
    assert len(shared) > 2000 and all(found[0][key] == found[1][key] for key in shared)
    assert any(found[0][0, t] != found[0][1, t] for _, t in shared)


def test_a_uniform_model_has_perplexity_v(inside):
    task = LanguageTask(settings("baseline"))
    for parameter in task.module.model.output.parameters():
        torch.nn.init.zeros_(parameter)
    loss = task.evaluate()["loss/clean"]
    assert loss.count == len(task.dev) - 1 == 300 and math.exp(loss.mean) == pytest.approx(
        len(task.vocabulary), rel=1e-6
    )


@pytest.mark.parametrize("size", [1, 20, 1000])
def test_evaluation_does_not_depend_on_batches_or_chunks(inside, monkeypatch, size):
    losses = []
    for batch_size, chunk in ((8, 500), (size if size < 100 else 8, size)):
        monkeypatch.setattr(perplexity, "EVALUATED", chunk)
        losses.append(LanguageTask(settings("baseline", f"train.batch_size={batch_size}")).evaluate()["loss/clean"])
    assert losses[0].count == losses[1].count and losses[0].total == pytest.approx(losses[1].total, rel=1e-6)


def test_one_update_equals_a_plain_one(inside):
    """Two steps, the second from the state of the first, in float64 with torch's own LSTM, both views side by side."""
    config = settings("irl_loss", "objective.warmup=0", "model.dropout=0")
    task = LanguageTask(config)
    module = task.module.double()
    model, states = module.model, [None] * 4
    for number in (0, 1):
        batch = task.make(0, BatchSpec(number, True, 1))
        terms = module(batch, "paired", 0)
        views = []
        for v, x in enumerate((batch.clean, batch.noisy[0])):
            hidden = [model.embed(x)]
            for i, layer in enumerate(model.layers):
                value, states[2 * v + i] = layer(hidden[-1], states[2 * v + i])
                hidden.append(value)
            views.append((model.output(hidden[-1]), hidden))
        expected = sum(0.5 * F.cross_entropy(logits.flatten(0, 1), batch.y.flatten()) for logits, _ in views)
        for a, b in zip(views[0][1], views[1][1]):
            expected = expected + (0.1 * (a - b).norm(dim=-1) + 1 - F.cosine_similarity(a, b, dim=-1)).mean()
        torch.testing.assert_close(terms.total, 10 * expected, rtol=1e-9, atol=0)
        assert module.state.h.shape == (2, 16, 12) and not module.state.h.requires_grad


def test_views_go_on_from_the_state_of_the_clean_phase(inside):
    task = LanguageTask(settings("irl_batching"))
    module = task.module.eval()
    clean = task.make(0, BatchSpec(0, True, 0))
    module(clean, "clean", 6)
    state = module.state
    batch = task.make(0, BatchSpec(1, True, 1))
    module(batch, "paired", 0)
    for view, x in enumerate((batch.clean, *batch.noisy)):
        expected = module.model.hidden_states(x, state)[2]
        torch.testing.assert_close(module.state.h[:, 8 * view : 8 * view + 8], expected.h)


def test_shared_dropout_gives_equal_views_of_equal_words(inside):
    for shared in (True, False):
        task = LanguageTask(
            settings("irl_loss", "noise.p=0", f"share_dropout={str(shared).lower()}", "objective.warmup=0")
        )
        distance = float(task.module(task.make(0, BatchSpec(0, True, 1)), "paired", 0).dist.detach())
        assert (distance < 1e-6) == shared


def test_gamma_0_is_irl_batching_to_the_bit(folder):
    run("irl.bin.train", "irl_batching.yaml", "--exp", "exp/batching", cwd=folder)
    run("irl.bin.train", "irl_loss.yaml", "objective.gamma=0", "--exp", "exp/gamma0", cwd=folder)
    a, b = (checkpoint.load(folder / "exp" / name / "checkpoint.pt") for name in ("batching", "gamma0"))
    assert same_weights(a, b)


@pytest.mark.parametrize("name", ["irl_loss", "unigram", "data_aug", "teacher"])
def test_resumed_runs_equal_unbroken_ones_to_the_bit(folder, name):
    """Also in mid-epoch, with a state that goes on, and after the rate was halved."""
    run("irl.bin.train", f"{name}.yaml", "train.learning_rate=8", "--exp", f"exp/{name}", cwd=folder)
    for stop in (3, 20, 39, 40):
        overrides = ["train.learning_rate=8", "--exp", f"exp/{name}.parts", "--stop", stop]
        run("irl.bin.train", f"{name}.yaml", *overrides, cwd=folder)
    whole, parts = (checkpoint.load(folder / "exp" / x / "checkpoint.pt") for x in (name, f"{name}.parts"))
    assert same_weights(whole, parts) and whole["lr_scale"] == parts["lr_scale"] < 1
    states = ["h", "c"] + ["teacher_h", "teacher_c"] * (name == "teacher")
    assert sorted(whole["hidden_state"]) == sorted(states)
    assert all(torch.equal(whole["hidden_state"][k], parts["hidden_state"][k]) for k in states)
    assert all(torch.equal(whole["averaged"][k], parts["averaged"][k]) for k in whole["averaged"])


def test_a_plateau_goes_back_to_the_best_weights_and_slows(folder):
    run("irl.bin.train", "baseline.yaml", "train.learning_rate=30", "--exp", "exp/plateau", cwd=folder)
    state = checkpoint.load(folder / "exp/plateau/checkpoint.pt")
    lines = metrics(folder / "exp/plateau/metrics.jsonl")
    found = [(line["step"], line["dev/loss/clean"]) for line in lines if "dev/loss/clean" in line and line["step"] > 7]
    # The last of all is of the best weights again.
    assert found.pop() == (40, min(loss for _, loss in found))
    lr_scale, best = 1.0, math.inf
    for _, loss in found:
        lr_scale *= 1 if loss < best else 0.5
        best = min(best, loss)
    assert state["lr_scale"] == lr_scale < 1 and list(state["best"].values()) == [best]
    rates = {line["step"]: line["rate"] for line in lines}
    assert rates[40] in (30 * lr_scale, 30 * lr_scale * 2)  # the evaluation at the end may slow once more


@pytest.mark.parametrize("name", ["baseline", "irl_loss"])
def test_it_reaches_the_entropy_of_a_known_language(tmp_path, name):
    folder = words.build_recipe(tmp_path, (12000, 3000, 3000))
    overrides = ["train.updates=450", "train.clean_updates=0", "model.dropout=0", "train.optimizer=adamw",
                 "train.learning_rate=0.02", "sum_over_time=false", "train.clip_norm=1"]  # fmt: skip
    if name == "irl_loss":
        # From the first step on, and down to the embedding, the distance would keep the model at no knowledge at all.
        overrides += ["objective.gamma=0.1", "objective.warmup=300", "objective.from_layer=rnn.1"]
    run("irl.bin.train", f"{name}.yaml", *overrides, "--exp", "exp/x", cwd=folder)
    last = metrics(folder / "exp/x/metrics.jsonl")[-1]
    assert last["dev/loss/clean"] == pytest.approx(words.ENTROPY, rel=0.05)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["noise.p=1.5"], "noise.p: expected float in [0, 1], found 1.5"),
        (["bptt=2000"], "data/train.txt: 1301 tokens in 8 rows are 162 each, fewer than bptt 2000 and one more"),
        (["bptt=0"], "bptt: expected int >= 1, found 0"),
        (["model.init=-1"], "model.init: expected float >= 0, found -1"),
        (["train.average=0"], "decay plateau needs eval_every, and average"),
        (["objective.gamma=1", "objective.layers={rnn.7: 1}"], "unknown layer 'rnn.7'"),
        (["dev_text=data/none.txt"], "data/none.txt: no such file"),
        (["vocabulary=data/none.txt"], "data/none.txt: no such vocabulary"),
    ],
)
def test_bad_settings_are_one_line(folder, overrides, message):
    done = run("irl.bin.train", "irl_batching.yaml", *overrides, "--exp", "exp/bad", cwd=folder, check=False)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    shutil.rmtree(folder / "exp/bad", ignore_errors=True)


def test_preparing_names_tokens_and_unknown_words(folder):
    out = run("irl.bin.prepare", "irl_batching.yaml", "--check", "data/test.txt", cwd=folder).stdout
    assert out.strip().endswith("5 words; tokens: data/train.txt 1301, data/valid.txt 301, data/test.txt 301")
    (folder / "data/other.txt").write_text("a z\n")
    done = run("irl.bin.prepare", "irl_batching.yaml", "--check", "data/other.txt", cwd=folder, check=False)
    assert done.returncode == 1 and "data/other.txt:1: 'z' is not in the training text" in done.stderr


def test_states_survive_a_checkpoint(inside):
    task = LanguageTask(settings("baseline"))
    assert task.hidden_state() == {}
    state = LMState(torch.rand(2, 8, 12), torch.rand(2, 8, 12))
    task.module.state = state
    other = LanguageTask(settings("baseline"))
    other.load_state(task.hidden_state())
    assert torch.equal(other.module.state.c, state.c)


def test_noise_of_the_dev_text_is_fixed(inside):
    task = LanguageTask(settings("irl_loss"))
    first, second = (task.evaluate() for _ in range(2))
    assert {k: v.total for k, v in first.items()} == {k: v.total for k, v in second.items()}
    noise = WordNoise(task.config.noise, torch.tensor(task.vocabulary.counts))
    text = noise.apply(task.dev, noise.draw(Keys(torch.arange(len(task.dev)), 1, "noise/dev", 0, 1)))
    # The copy's words are read, the true ones predicted.
    model = task.module.model.eval()
    total = 0.0
    with torch.no_grad():
        for chunk, (view,) in read_through(model, [text]):
            total += float(token_losses(view, task.dev, chunk).double().sum())
    assert first["loss/noisy"].total == pytest.approx(total)


def test_perplexity_of_texts_by_line(folder):
    run("irl.bin.train", "baseline.yaml", "--exp", "exp/ppl", cwd=folder)
    (folder / "data/lines.txt").write_text("a b\n\nc d a\n")
    arguments = [
        "exp/ppl/checkpoint.pt",
        "--conditions",
        "test=data/test.txt",
        "lines=data/lines.txt",
        "--out",
        "exp/ppl/p",
    ]
    out = run("irl.bin.evaluate", *arguments, cwd=folder).stderr
    found = {name: json.loads((folder / f"exp/ppl/p/{name}.json").read_text()) for name in ("test", "lines")}
    # a | b <eos> / <eos> / c d a <eos>: all but the first word are predicted.
    assert found["lines"]["reference"] == [2, 1, 4] and found["test"]["reference"] == [300]
    state = checkpoint.load(folder / "exp/ppl/checkpoint.pt")
    model, vocabulary, _ = perplexity.load(folder / "exp/ppl/checkpoint.pt", "cpu")
    text = vocabulary.encode(folder / "data/lines.txt")
    with torch.no_grad():
        logits = model.hidden_states(text[None], model.first_state(1))[0][0]
    each = -logits.log_softmax(-1)[:-1].gather(1, text[1:, None])[:, 0]
    expected = [float(part.sum()) for part in each.split([2, 1, 4])]
    assert found["lines"]["errors"] == pytest.approx(expected, abs=1e-3)
    # Long lines are cut into blocks, so that a text without line breaks has an interval.
    (folder / "data/long.txt").write_text("a " * 2500 + "\nb c\n" + "d " * 1000)
    nats, counts = perplexity.by_line(model, vocabulary, folder / "data/long.txt")
    assert counts.tolist() == [999, 1000, 501, 3, 1000, 1]
    assert nats.sum() == pytest.approx(total_loss(model, vocabulary.encode(folder / "data/long.txt")).item())
    assert interval([300], [1.0]) is None and interval(counts[:3], nats[:3]) is not None
    total = sum(found["test"]["errors"])
    assert f"test: perplexity {math.exp(total / 300):.2f} = exp({total:.1f} nats / 300 words)" in out
    assert state["averaged"], "the best weights are those that are evaluated"
    wrong = run("irl.bin.evaluate", "exp/ppl/checkpoint.pt", "--conditions", "data/test.txt", cwd=folder, check=False)
    assert wrong.returncode == 1 and "--conditions: expected NAME=TEXT" in wrong.stderr


def test_layers_of_a_text_and_its_noisy_copies(folder):
    run("irl.bin.train", "baseline.yaml", "train.updates=2", "train.clean_updates=0", "--exp", "exp/a.1", cwd=folder)
    analyse = ["irl.bin.analyse", "exp/a.1", "--clean", "data/test.txt", "--out", "exp/analysis", "--noisy"]
    for kind in ("blank", "unigram"):
        run(*analyse, kind, cwd=folder)
        rows = (folder / "exp/analysis/distances.csv").read_text().splitlines()
        assert [row.split(",")[1] for row in rows[1:]] == ["embedding", "rnn.0", "rnn.1"]
        l2, cosine, norm, between = (float(x) for x in rows[1].split(",")[2:6])
        # A fifth of the words are replaced, all are another word than that of another row, or the same one.
        assert 0.1 < l2 / between < 0.45 and cosine > 0 and norm > 0
    wrong = run(*analyse, "fog", cwd=folder, check=False)
    assert wrong.returncode == 1
    assert "--noisy: kind: expected one of blank, unigram, drop, kneser_ney, found 'fog'" in wrong.stderr


def test_rows_of_one_row():
    whole = Output(torch.arange(14.0).view(1, 7, 2), {"a": torch.arange(7.0).view(1, 7, 1)}, {"a": torch.tensor([7])})
    cut = in_rows(whole, 3)
    assert cut.hidden["a"][..., 0].tolist() == [[0, 1, 2], [3, 4, 5]] and cut.lens["a"].tolist() == [3, 3]
    assert cut.logits.shape == (2, 3, 2)
