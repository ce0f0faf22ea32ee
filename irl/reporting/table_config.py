"""A recipe's conf/table.yaml: the names of its methods, the pairs it tests, the notes above its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from irl.core import config
from irl.core.types import Checked

DEFAULT = Path("conf/table.yaml")


@dataclass(frozen=True)
class TableConfig(Checked):
    """methods: labels by method, in the order of the rows. A method that is not listed comes after them, under the name
    of its configuration file. tests: pairs of methods (a, b); the table tests the difference a - b.
    compare_with: the method that every unlisted method is tested against, and zero in the figure of differences.
    far_off: methods that the figure of differences leaves out, because the others could not be told apart beside them.
    own_updates: methods that may train for longer or shorter than the others, as controls do; the text below the table
    gives their numbers.
    variants: labels by setting of an evaluation, such as {lm: LM}. Where only some runs were evaluated with that
    setting, they have rows of their own, "... + LM".
    notes: the sentence above the table of results/NAME.jsonl, by NAME. `irl report` without arguments renews these
    tables. differences: those that also get a figure NAME-differences, with the difference of every method to
    `compare_with` under every condition. prefix: begins the names of tables in Markdown files and of their figures.
    insert: Markdown files that show them, relative to the recipe.
    """

    methods: dict[str, str] = field(default_factory=dict)
    tests: tuple[tuple[str, ...], ...] = ()
    compare_with: str = ""
    far_off: tuple[str, ...] = ()
    own_updates: tuple[str, ...] = ()
    variants: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    prefix: str = ""
    insert: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.differences:
            if name not in self.notes or not self.compare_with:
                raise ValueError(f"differences: {name} needs a note, and compare_with the method to compare with")
        for name in self.own_updates:
            if name not in self.methods:
                raise ValueError(f"own_updates: {name} is not one of the methods")
        for pair in self.tests:
            if len(pair) != 2:
                raise ValueError(f"tests: expected pairs of methods, found {list(pair)}")

    def label(self, method: str) -> str:
        return self.methods.get(method, method.rpartition("/")[2])

    def variant(self, settings: Mapping[str, Any]) -> str:
        """What the settings of an evaluation add to the name of a method."""
        return "".join(f" + {label}" for key, label in self.variants.items() if key in settings)


def read_table_config(path: Path | None) -> TableConfig:
    """The configuration in a file; without one, that of the recipe one stands in, or else defaults."""
    if path is None and not DEFAULT.exists():
        return TableConfig()
    return config.load(TableConfig, path or DEFAULT)
