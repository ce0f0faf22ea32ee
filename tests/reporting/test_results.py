import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.core.errors import UserError
from irl.reporting.evaluation import read_counts
from irl.reporting.results import SHOWN, append, counts, matches, pack, read
from irl.reporting.table import select
from irl.reporting.table_config import TableConfig
from irl.training.modality import Modality
from irl.training.registry import modality

PLAIN = Modality()


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300))
def test_counts_survive_packing(values):
    assert counts(pack(np.array(values))).tolist() == values == counts(values).tolist()


def test_counts_that_do_not_fit_are_refused():
    for wrong in ([-1], [65536]):
        with pytest.raises(ValueError, match="0 to 65535"):
            pack(np.array(wrong))


def test_the_same_model_under_further_conditions_completes_its_line(tmp_path):
    line = {"corpus": "c", "method": "m", "digest": "d", "decode": {"jitter": 0.5}, "weights": "w"}
    path = tmp_path / "r.jsonl"
    append(path, {**line, "conditions": {"none": 1, "in": 2}}, PLAIN)
    append(path, {**line, "conditions": {"out": 3}}, PLAIN)
    assert [row["conditions"] for row in read(path)] == [{"none": 1, "in": 2, "out": 3}]
    append(path, {**line, "weights": "trained again", "conditions": {"none": 4}}, PLAIN)
    assert [row["conditions"] for row in read(path)] == [{"none": 4}]


def test_counts_without_a_fingerprint_are_evaluated_again(tmp_path):
    """Earlier versions named it otherwise."""
    (tmp_path / "none.json").write_text('{"mark": {"data": "d"}, "errors": [1], "reference": [2]}\n')
    for name in ("none", "in"):
        with pytest.raises(UserError, match=f"{name}.json: not evaluated; run stage 5 first"):
            list(read_counts(tmp_path, {name: ""}))


def test_lines_of_another_training_set_are_no_results():
    run = {"corpus": "c", "method": "m", "digest": "d", "decode": {}, "conditions": ["none"]}
    line = {**run, "conditions": {"none": 1}}
    assert matches({**line, "train_data": "a"}, {**run, "train_data": "a"}, PLAIN)
    assert not matches({**line, "train_data": "a"}, {**run, "train_data": "b"}, PLAIN)
    assert matches(
        {**line, "train_data": "a"}, {**run, "train_data": ""}, PLAIN
    ), "the set is not there to be looked at"


def test_lines_of_other_test_data_or_noise_are_no_results():
    run = {
        "corpus": "c",
        "method": "m",
        "digest": "d",
        "decode": {},
        "conditions": ["none"],
        "test_data": {"none": "a"},
    }
    line = {**run, "train_data": "t", "conditions": {"none": {"data": "a"}, "in": {"data": "z"}}}
    old = {key: value for key, value in line.items() if key != "train_data"}
    assert matches(old, {**run, "test_data": {"none": "b"}}, PLAIN), "fingerprints of an earlier version"
    assert matches(line, run, PLAIN) and not matches(line, {**run, "test_data": {"none": "b"}}, PLAIN)
    assert matches(line, {**run, "test_data": {"none": ""}}, PLAIN), "the set is not there to be looked at"
    assert matches({**line, "conditions": {"none": {}}}, run, PLAIN), "an older line does not tell"
    for key in ("dev_data", "noise_data"):
        assert matches(line, {**run, key: "x"}, PLAIN) and matches({**line, key: "x"}, {**run, key: "x"}, PLAIN)
        assert not matches({**line, key: "x"}, {**run, key: "y"}, PLAIN)
    # Other conditions of a line may be of data that have gone.
    row = {**line, "seed": 1}
    assert [shown["conditions"] for shown in select([row], PLAIN, TableConfig(), [run])] == [{"none": {"data": "a"}}]


def test_lines_that_are_appended_at_once_are_all_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [{"corpus": "c", "method": f"m{i}", "digest": "d", "decode": {}, "conditions": {}} for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda line: append(path, line, PLAIN), lines))
    assert sorted(row["method"] for row in read(path)) == sorted(line["method"] for line in lines)


def test_lines_are_kept_and_replaced(tmp_path):
    path = tmp_path / "r.jsonl"
    assert read(path) == []
    for seed, errors in ((1, 0), (2, 1), (1, 2)):
        line = {"corpus": "c", "method": "m", "digest": f"m{seed}", "decode": {}, "conditions": {"none": errors}}
        append(path, line, PLAIN)
    assert [row["conditions"]["none"] for row in read(path)] == [1, 2]
    with open(path, "a") as file:
        file.write('{"half')
    with pytest.raises(UserError, match=r"r.jsonl:3: not a JSON line"):
        read(path)


def test_decoding_in_another_way_is_another_result():
    speech = modality("speech", "test")
    wanted = {"corpus": "toy", "method": "a", "digest": "a1", "conditions": ["none"]}
    plain = {"search": "joint", "beam": 5, "ctc_weight": 0.5, "length_bonus": 0.0}

    def found(decode):
        return {**wanted, "conditions": {"none": 1}, "decode": decode}

    tuned = {**plain, "lm_weight": 0.4, "lm": "x", "tuned": ["dev"]}
    asked = {"search": "joint", "beam": 5, "ctc_weight": 0.5, "lm": "x", "tuned": ["dev"]}
    assert matches(found(plain), {**wanted, "decode": plain}, speech)
    assert matches(found({**plain, "nbest": 1, "pre_beam_ratio": 1.5}), {**wanted, "decode": plain}, speech)
    assert matches(found(tuned), {**wanted, "decode": asked}, speech)
    assert not matches(found(tuned), {**wanted, "decode": plain}, speech)
    assert not matches(found(tuned), {**wanted, "decode": {**asked, "lm": "y"}}, speech)
    assert not matches(found(tuned), {**wanted, "decode": {**asked, "tuned": ["other"]}}, speech)
    assert not matches(found({**plain, "max_length": 0.5}), {**wanted, "decode": plain}, speech)
    # Rooms that were given are not those that were generated.
    given = {**wanted, "decode": plain, "banks": ["generated", "RIRS_NOISES"]}
    assert not matches(found(plain), given, speech)
    assert matches({**found(plain), "banks": ["generated", "RIRS_NOISES"]}, given, speech)


def test_the_weights_of_a_table_must_be_equal_where_they_were_tuned():
    speech = modality("speech", "test")
    tuned = {"search": "joint", "beam": 5, "ctc_weight": 0.3, "length_bonus": 0.0, "lm_weight": 0.4, "lm": "x"}
    other = {**tuned, "ctc_weight": 0.5}
    assert speech.same_evaluation({"decode": {**tuned, "tuned": ["dev"]}}, {"decode": {**other, "tuned": ["dev"]}})
    assert speech.comparable(tuned) != speech.comparable(other)
    assert speech.comparable({**tuned, "nbest": 3}) == speech.comparable(tuned)
    sentence = speech.describe(speech.comparable({**tuned, "tuned": ["dev"]}))
    assert "joint search, beam 5, ctc weight 0.3, length bonus 0, lm weight 0.4" in sentence
    assert "character LM" in sentence and sentence.endswith("; weights tuned on dev.")


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", "\x00", '{"corpus": 1}', "[" * 100_000])
def test_lines_that_are_no_results_are_named(tmp_path, text):
    path = tmp_path / "r.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match=r"r.jsonl:1: not a (JSON line|line of results: expected a key 'corpus')"):
        read(path)
    path.write_bytes(b'{"corpus": "\xff"}\n')
    with pytest.raises(UserError, match="r.jsonl:1: not a JSON line"):
        read(path)


@pytest.mark.parametrize("errors", ["x", "eJw=", [1], [[1, 2]], None, ["a", 2]])
def test_counts_that_are_none_are_named(tmp_path, errors):
    line = {key: kind() for key, kind in SHOWN.items()}
    line["conditions"] = {"none": {"errors": errors, "reference": [1, 1], "data": "x"}}
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="r.jsonl:1: condition none: expected counts of errors and reference"):
        read(path, SHOWN)
