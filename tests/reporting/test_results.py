import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl.reporting.results import append, counts, matches, pack, read
from irl.vision import modality


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
    append(path, {**line, "conditions": {"none": 1, "in": 2}}, modality)
    append(path, {**line, "conditions": {"out": 3}}, modality)
    assert [row["conditions"] for row in read(path)] == [{"none": 1, "in": 2, "out": 3}]
    append(path, {**line, "weights": "trained again", "conditions": {"none": 4}}, modality)
    assert [row["conditions"] for row in read(path)] == [{"none": 4}]


def test_lines_of_another_training_set_are_no_results():
    run = {"corpus": "c", "method": "m", "digest": "d", "decode": {}, "conditions": ["none"]}
    line = {**run, "conditions": {"none": 1}}
    assert matches({**line, "train_data": "a"}, {**run, "train_data": "a"}, modality)
    assert not matches({**line, "train_data": "a"}, {**run, "train_data": "b"}, modality)
    assert matches(
        {**line, "train_data": "a"}, {**run, "train_data": ""}, modality
    ), "the set is not there to be looked at"
