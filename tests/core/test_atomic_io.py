"""Files are written whole or not at all, and nowhere else."""

import os

import pytest

from irl.core import atomic_io
from irl.core.errors import UserError


def test_no_link_is_followed(tmp_path):
    path, victim = tmp_path / "a", tmp_path / "victim"
    victim.write_text("before")
    # What someone may leave in a shared folder: the name that a temporary file had.
    (tmp_path / "a.tmp").symlink_to(victim)
    path.symlink_to(victim)
    atomic_io.write(path, "new")
    assert victim.read_text() == "before" and path.read_text() == "new" and not path.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a", "a.tmp", "victim"]


def test_the_mode_is_that_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_io.write(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    atomic_io.write(path, "old")
    with pytest.raises(RuntimeError):
        with atomic_io.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    with pytest.raises(UserError, match="a/b: cannot be written"):
        atomic_io.write(path / "b", "x")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_the_old_file_is_kept(tmp_path):
    for text in ("one", "two", "three"):
        atomic_io.write(tmp_path / "a", text, keep=tmp_path / "b")
    assert (tmp_path / "a").read_text() == "three" and (tmp_path / "b").read_text() == "two"
