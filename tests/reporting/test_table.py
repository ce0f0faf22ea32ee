from dataclasses import replace

import numpy as np
import pytest

from irl.core import config
from irl.core.errors import UserError
from irl.reporting.figures import differences, draw
from irl.reporting.markdown import insert, page, pairs_to_test, rates
from irl.reporting.statistics import RESAMPLES, resampled_sums
from irl.reporting.table import NOISY_MEAN, Table, by_test_set, select
from irl.reporting.table_config import TableConfig, read_table_config
from irl.training.modality import MetricSpec, Modality


class Smell(Modality):
    """A modality that the package does not know."""

    name = "smell"
    metric = MetricSpec("share of wrong smells", "%", "bottles", True, ("none", NOISY_MEAN))

    def comparable(self, settings):
        return {key: value for key, value in settings.items() if key != "jobs"}

    def describe(self, settings):
        return f"Smelled with {settings['nose']}."

    def heading(self, condition):
        return condition.replace("_", " ")

    def table_sections(self, table):
        return ["", f"{table.label(table.methods[0])} is first."]


SMELL = Smell()
NAMES = TableConfig(
    {"plain": "plain", "loss": "our loss"}, (("loss", "plain"),), compare_with="plain", variants={"wine": "wine"}
)


def line(method, seed, errors, **fields):
    conditions = {name: {"reference": [10, 20, 30], "errors": e, "data": "x"} for name, e in errors.items()}
    return {
        "corpus": "toy", "method": method, "seed": seed, "digest": f"{method}{seed}", "commit": "a", "versions": {},
        "train_seconds": 60.0, "updates": 10, "config": {"task": "smell", "train": {"clean_updates": 5}},
        "decode": {"nose": "left"}, "conditions": conditions, **fields,
    }  # fmt: skip


def table(*lines, names=NAMES):
    return Table(select(lines, SMELL, names), SMELL, names)


def test_rows_are_in_the_order_of_the_configuration_then_of_the_lines():
    errors = {"none": [1, 1, 1]}
    made = table(*(line(m, 1, errors) for m in ("tried/b", "loss", "tried/a", "plain")))
    assert [made.label(m) for m in made.methods] == ["plain", "our loss", "b", "a"]
    assert pairs_to_test(made) == [("loss", "plain"), ("tried/b", "plain"), ("tried/a", "plain")]
    unnamed = table(*(line(m, 1, errors) for m in ("loss", "plain")), names=TableConfig())
    assert [unnamed.label(m) for m in unnamed.methods] == ["loss", "plain"] and pairs_to_test(unnamed) == []


def test_the_best_of_a_column_is_bold_unless_another_shows_the_same_number():
    rows = [line("plain", 1, {"none": [6, 0, 0], "wet_dog": [0, 0, 9], "old_hat": [0, 0, 0]})]
    rows += [line("loss", 1, {"none": [0, 0, 6], "wet_dog": [0, 0, 3], "old_hat": [0, 0, 0]})]
    text = rates(table(*rows))
    assert "| method | none | wet dog | old hat | mean over noisy conditions |" in text
    cells = [[cell.split(" (")[0] for cell in row.split(" | ")] for row in text.splitlines()[-2:]]
    assert cells == [["| plain", "10.0", "15.0", "0.0", "7.5"], ["| our loss", "10.0", "**5.0**", "0.0", "**2.5**"]]
    # Rates that differ, but not in the number that is shown.
    close = [line(m, 1, {"none": [errors, 0, 0]}) for m, errors in (("plain", 5.0), ("loss", 5.01))]
    assert table(*close).best("none") is None and "**" not in rates(table(*close))


def test_sections_of_a_page():
    text = page(table(line("loss", 1, {"none": [1, 1, 1]}), line("plain", 1, {"none": [2, 2, 2]})), "A note.")
    assert text.startswith("A note.\n\nShare of wrong smells in %, with 95 % bootstrap intervals over bottles.\n")
    sections = ["| our loss - plain | -5.0 (", "plain is first.", "3 bottles a condition; 10 updates, of them 5 clean"]
    assert [text.index(section) for section in sections] == sorted(text.index(section) for section in sections)
    assert "Smelled with left.\nSeeds: plain 1, our loss 1.\n" in text


def test_equal_sums_over_seeds_are_ties():
    """p against a count in whole numbers: means of three seeds would be thirds, and differ by rounding."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 3, (3, 12)), rng.integers(0, 3, (3, 12))
    reference = [10] * 12

    def lines(method, errors):
        return [
            {
                **line(method, seed, {}),
                "conditions": {"none": {"reference": reference, "errors": e.tolist(), "data": "x"}},
            }
            for seed, e in enumerate(errors, 1)
        ]

    found = table(*lines("plain", a), *lines("loss", b)).test("loss", "plain", "none")["p"]
    difference = resampled_sums((b.sum(0) - a.sum(0))[:, None])
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    assert (difference == 0).any() and found < 1 and found == 2 * (tail + 1) / (RESAMPLES + 1)


def test_times_are_told_apart_by_device():
    errors = {"none": [1, 1, 1]}
    rows = [line("plain", 1, errors), line("plain", 2, errors, device="cpu", train_seconds=80.0)]
    rows += [line("plain", 3, errors, device="NVIDIA H200", train_seconds=6.0)]
    assert "Training time a run: plain 70 s, plain 6 s (NVIDIA H200).\n" in page(table(*rows), "")
    half = {"config": {"task": "smell", "train": {"clean_updates": 5, "precision": "bf16-mixed"}}}
    rows = [line("plain", 1, errors, **half), line("plain", 2, errors, device="cpu, bf16-mixed", **half)]
    assert "Training time a run: plain 60 s (cpu, bf16-mixed).\n" in page(table(*rows), "")


def test_a_setting_of_the_evaluation_makes_rows_of_their_own():
    def lines(method, errors, **settings):
        decode = {"nose": "left", **settings}
        return [line(method, seed, {"none": errors, "tel": errors}, decode=decode) for seed in (1, 2)]

    rows = [*lines("loss", [5, 5, 5]), *lines("loss", [1, 2, 2], wine="red"), *lines("plain", [9, 9, 9], wine="red")]
    made = table(*rows)
    assert made.methods == ["plain + wine", "loss", "loss + wine"] and made.trained == ["plain + wine", "loss"]
    text = page(made, "")
    assert "| our loss + wine - our loss | -16.7" in text and "| our loss + wine - plain + wine |" in text
    assert text.count("Smelled with left.") == 2
    # Alone they need no other name.
    assert table(*lines("loss", [1, 2, 2], wine="red")).methods == ["loss"]
    wanted = [{**rows[0], "conditions": ["none"]}]
    assert {row["method"] for row in select(rows, SMELL, NAMES, wanted)} == {"loss"}


def test_lines_that_may_not_be_compared():
    first, errors = line("plain", 1, {"none": [1, 1, 1]}), {"none": [1, 1, 1]}
    table(first, line("loss", 1, errors, decode={"nose": "left", "jobs": 2}))
    for fields, message in (
        ({"decode": {"nose": "right"}}, r"decode is \{'nose': 'right'\}, but \{'nose': 'left'\} for plain, seed 1"),
        ({"updates": 20}, "updates is 20, but 10 for plain, seed 1"),
        ({"train_data": "y"}, "train_data is y, but None for plain, seed 1"),
        ({"conditions": {}}, "was not tested on the same bottles in condition none as plain, seed 1"),
    ):
        with pytest.raises(UserError, match=f"loss, seed 3: {message}"):
            table(first, line("loss", 3, errors, **fields))


def test_a_control_may_train_for_longer():
    errors = {"none": [1, 1, 1]}
    rows = [line("longer", 1, errors, updates=20), line("plain", 1, errors), line("loss", 1, errors)]
    with pytest.raises(UserError, match="plain, seed 1: updates is 10, but 20 for longer"):
        table(*rows)
    names = replace(NAMES, methods={**NAMES.methods, "longer": "longer"}, own_updates=("longer",))
    with pytest.raises(ValueError, match="own_updates: shorter is not one of the methods"):
        replace(NAMES, own_updates=("shorter",))
    assert '; 10 updates, of them 5 clean, for every method but "longer" (20).\n' in page(table(*rows, names=names), "")
    with pytest.raises(UserError, match="longer, seed 2: updates is 30, but 20 for longer, seed 1"):
        table(*rows, line("longer", 2, errors, updates=30), names=names)


def test_several_test_sets():
    row = line("plain", 1, {"a:none": [1, 1, 1], "a:wet": [2, 2, 2], "b:none": [3, 3, 3]})
    sets = by_test_set([row])
    assert {name: list(rows[0]["conditions"]) for name, rows in sets.items()} == {"a": ["none", "wet"], "b": ["none"]}


def test_marks_in_markdown_files(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        "Before\n<!-- table x -->old<!-- end -->\n<!-- report x --><!-- end -->\n<!-- table y -->y<!-- end -->"
    )
    made = table(line("plain", 1, {"none": [1, 1, 1]}))
    insert(path, "x", made, "A note.")
    first, second, third = path.read_text().split("<!-- end -->")[:3]
    assert first == f"Before\n<!-- table x -->\n\n{rates(made)}\n\n"
    assert second.strip() == f"<!-- report x -->\n\n{page(made, 'A note.').strip()}" and third.endswith("y -->y")


def test_the_file_of_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_table_config(None) == TableConfig()
    path = tmp_path / "conf" / "table.yaml"
    path.parent.mkdir()
    path.write_text("methods: {b: B, a: A}\ntests: [[a, b]]\nfar_off: [b]\n")
    found = read_table_config(None)
    assert list(found.methods.items()) == [("b", "B"), ("a", "A")]
    assert (found.tests, found.far_off) == ((("a", "b"),), ("b",))
    for text, message in (("lables: {}\n", "unknown key lables"), ("tests: [[a]]\n", "tests: expected")):
        path.write_text(text)
        with pytest.raises(UserError, match=f"table.yaml: {message}"):
            config.load(TableConfig, path)


def test_p_values_that_hold_for_the_number_of_comparisons_are_marked():
    """400 bottles: "loss" is better on most, "tie" only by chance."""
    reference = [10] * 400
    errors = {
        "plain": [4] * 400,
        "loss": [2] * 300 + [4] * 100,
        "tie": [4 - i % 2 + (i % 4 == 1) * 2 for i in range(400)],
    }
    rows = []
    for method, own in errors.items():
        made = line(method, 1, {"none": own})
        made["conditions"]["none"]["reference"] = reference
        rows.append(made)
    text = page(table(*rows), "")
    assert "below 0.05 after Holm's correction for these 2 comparisons." in text
    assert "| our loss - plain | -15.0 (-15.9 to -14.1), p < 0.001\\* |" in text
    assert text.count("\\*") == 2, "the sentence and one of the two tests"


def test_differences_of_every_method_under_every_condition(tmp_path):
    errors = {"none": [3, 3, 3], "sour": [5, 5, 5], "sweet": [5, 6, 7]}
    lines = [line(m, 1, {c: [e - i for e in v] for c, v in errors.items()}) for i, m in enumerate(("plain", "loss"))]
    made = table(*lines, line("other", 1, errors), names=replace(NAMES, far_off=("other",)))
    differences(made, tmp_path / "d", "title")
    drawn = (tmp_path / "d.svg").read_text()
    shown = ("difference to plain in share of wrong smells", "our loss", "sour", "sweet", "for 4 comparisons")
    assert all(text in drawn for text in shown) and "other" not in drawn
    with pytest.raises(ValueError, match="differences: mini needs a note"):
        TableConfig(differences=("mini",))


def test_a_single_example_has_neither_interval_nor_p():
    def one(method, errors):
        made = line(method, 1, {"none": [errors]})
        made["conditions"]["none"]["reference"] = [10]
        return made

    made = table(one("plain", 4), one("loss", 2))
    assert made.interval("loss", "none") is None and made.test("loss", "plain", "none") == {"difference": -20}
    text = page(made, "")
    assert "of which a single one has none" in text and "| our loss | **20.0** |" in text
    assert "| our loss - plain | -20.0 |" in text and "p = " not in text


def test_few_examples_that_agree_are_no_proof():
    rows = [line("plain", 1, {"none": [3, 3, 3]}), line("loss", 1, {"none": [2, 2, 2]})]
    assert table(*rows).test("loss", "plain", "none")["p"] == 0.25


def test_none_and_all_have_an_interval():
    rows = [line("plain", 1, {"none": [10, 20, 30]}), line("loss", 1, {"none": [0, 0, 0]})]
    made = table(*rows)
    assert made.interval("plain", "none") == pytest.approx((100 * 0.025 ** (1 / 3), 100))
    assert made.interval("loss", "none") == pytest.approx((0, 100 - 100 * 0.025 ** (1 / 3)))


def test_conditions_on_a_scale_are_drawn_as_curves_too(tmp_path, monkeypatch):
    scale = lambda self, c: ("wetness", float(c[3:])) if c.startswith("wet") else None  # noqa: E731
    monkeypatch.setattr(Smell, "scale", scale)
    errors = {f"wet{n:+d}": [n + 50, 0, 0] for n in (-40, -9, 0)} | {"none": [1, 1, 1]}
    draw(table(line("plain", 1, errors), line("loss", 1, errors)), tmp_path / "few", "title")
    assert {path.name for path in tmp_path.iterdir()} == {"few.png", "few.svg"}
    errors["wet+5"] = [0, 0, 0]
    draw(table(line("plain", 1, errors), line("loss", 1, errors)), tmp_path / "curve", "title")
    assert {path.name for path in tmp_path.glob("*.svg")} == {"few.svg", "curve.svg", "curve-scales.svg"}
    drawn = (tmp_path / "curve-scales.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("wetness", "share of wrong smells in %", "our loss", "−40"))
