"""Files that a crash or a hand has damaged."""

import pytest

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.fingerprint import read_log, read_product, remembered, write_product

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
