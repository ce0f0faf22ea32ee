"""The matrix of the documentation agrees with the tests behind it and with the code that it counts.

Those tests are of this suite: where one fails, the page is wrong, and the suite fails. The page was made where all
packages were installed, so it says "yes" also where a package is missing here.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "docs"))
import matrix  # noqa: E402


def test_the_page_is_what_passing_tests_make():
    passed = dict.fromkeys(matrix.checks(), "passed")
    assert matrix.PAGE.read_text() == matrix.render(passed, matrix.recorded())
    assert set(matrix.PACKAGES) == {found.split()[0] for found in matrix.recorded().split(", ")}
    check = matrix.checks()[0]
    assert "[no](" in matrix.render({**passed, check: "failed"}, "") and "[no](" not in matrix.PAGE.read_text()


@pytest.mark.parametrize("check", matrix.checks())
def test_each_check_is_a_test(check):
    path, _, name = check.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    marks = [ast.unparse(mark) for mark in found.decorator_list]
    assert not any("skip" in mark or "xfail" in mark or "slow" in mark for mark in marks)


@pytest.mark.parametrize("row", matrix.MATRIX, ids=lambda row: row.name)
def test_the_lines_that_are_counted_are_in_the_code(row):
    text = (ROOT / row.source).read_text()
    assert [line for line in row.lines if line not in text] == []
