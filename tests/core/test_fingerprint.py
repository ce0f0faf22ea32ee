"""Fingerprints, what they are kept in, and files that a crash or a hand has damaged."""

import json
import os

import pytest

from irl.core import atomic_io, fingerprint
from irl.core.errors import UserError
from irl.core.fingerprint import (
    check_inputs,
    content_fingerprint,
    file_fingerprint,
    read_product,
    record_inputs,
    remembered,
    remembered_of_file,
    write_product,
)
from irl.core.text_files import read_log

DAMAGED = [b"", b"{}", b"[1]", b"3", b"null", b'{"fingerprint"', b"\x00" * 9, b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda c: repr(c[:9]))
def test_damaged_products_are_made_again(tmp_path, content):
    path = tmp_path / "a.json"
    write_product(path, {"a": 1}, value=2)
    assert read_product(path, {"a": 1}, "value")["value"] == 2
    assert read_product(path, {"a": 1}, "errors") is None and read_product(path, {"a": 2}) is None
    path.write_bytes(content)
    assert read_product(path, {"a": 1}) is None
    assert remembered(path, [1], lambda: "made") == "made" and remembered(path, [1], lambda: "again") == "made"


@pytest.mark.parametrize("stamps", [[], [1], [["a", 2], "b"]])
def test_stamps_are_known_whether_they_come_as_a_list_or_one_after_another(tmp_path, monkeypatch, stamps):
    path = tmp_path / "a.json"
    whole = content_fingerprint([json.dumps([str(path), stamps]).encode()])
    for made in (stamps, iter(stamps)):
        monkeypatch.setattr(fingerprint, "_taken", {})
        assert remembered(path, made, lambda: "made") == "made"
        assert read_product(path, {"stamps": whole}, "value")


def test_what_is_no_line_of_a_log_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_log(path) == []
    whole = b'{"step": 1, "seconds": 2.5}\n'
    path.write_bytes(whole + b"\x00" * 50 + b"\n" + b'{"step": "\xff", "loss": 3}\n[1]\nnull\n' + whole + b'{"step": 2')
    assert read_log(path) == [{"step": 1, "seconds": 2.5}, {"loss": 3}, {"step": 1, "seconds": 2.5}]


def test_a_place_that_cannot_be_written_is_found_out_first(tmp_path):
    atomic_io.check_writable(tmp_path / "new" / "folder" / "a.jsonl")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="expected a file to write to, found a directory"):
        atomic_io.check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a directory that you may write to"):
        atomic_io.check_writable(tmp_path / "file" / "a.jsonl")


def test_a_fingerprint_is_taken_again_only_where_the_file_has_changed(tmp_path, monkeypatch):
    path, made = tmp_path / "a.txt", []

    def taken(kind="fingerprint", *settings):
        monkeypatch.setattr(fingerprint, "_taken", {})  # as in another process

        def make():
            made.append(kind)
            return file_fingerprint(path)

        return remembered_of_file(path, make, kind, *settings)

    assert taken() == ""
    path.write_text("one")
    first = taken()
    assert first == taken() == file_fingerprint(path) and len(made) == 1
    assert taken("numbers", 2) == taken("numbers", 2) and taken() == first and len(made) == 2
    taken("numbers", 3)
    assert len(made) == 3
    # Another content of the same size and time, as rsync and cp -p leave it.
    times = path.stat().st_mtime_ns
    (tmp_path / "b.txt").write_text("two")
    os.utime(tmp_path / "b.txt", ns=(times, times))
    os.replace(tmp_path / "b.txt", path)
    assert path.stat().st_mtime_ns == times and taken() != first


def test_a_closed_folder_costs_the_time_once(tmp_path, monkeypatch):
    path, made = tmp_path / "a.txt", []
    path.write_text("one")

    def closed(*args, **content):
        raise UserError("cannot be written")

    monkeypatch.setattr(fingerprint, "write_product", closed)
    for _ in range(2):
        assert remembered_of_file(path, lambda: made.append(1) or "x") == "x"
    assert made == [1]


def test_a_product_of_other_inputs_is_refused(tmp_path):
    path = tmp_path / "words.txt"
    check_inputs(path, "run stage 3 again", train_text="a", min_count=2)  # an earlier version recorded nothing
    record_inputs(path, train_text="a", min_count=1)
    check_inputs(path, "run stage 3 again", train_text="a", min_count=1)
    check_inputs(path, "run stage 3 again", train_text="", min_count=1)
    with pytest.raises(UserError, match="words.txt: was made with min_count 1, now it is 2; run stage 3 again"):
        check_inputs(path, "run stage 3 again", train_text="a", min_count=2)
    with pytest.raises(UserError, match="words.txt: was made from another train_text than there is now; run stage 3"):
        check_inputs(path, "run stage 3 again", train_text="b", min_count=1)
