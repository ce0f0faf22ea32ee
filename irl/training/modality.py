"""What a modality offers. Everything that differs between speech, images and text is asked of this one object.

A package such as `irl.vision` exports its object as `modality`; `irl.training.registry` finds it by name. A fourth
modality is one new package and one line in the registry. Its attributes name the module of each method, which is
imported at first use (`lazily`): a command for one modality does not wait for the libraries of another.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, NoReturn, Sequence

from irl.core.errors import UserError
from irl.training.distributed import Shard
from irl.training.layer_stats import LayerPair
from irl.training.task import Task


def percent(ratio: Any) -> Any:
    return 100 * ratio


class MetricSpec(NamedTuple):
    """How results are shown. Results keep sums of errors and of what they are divided by; `show` turns the ratio of
    the two into the number of a table.

    name, unit: such as "test error" and "%".
    counted: what intervals resample, such as "images".
    averaged: whether a mean over the noisy conditions means anything.
    tested: columns of the paired tests, None for all.
    show: where an "error" is a negative log likelihood, exp gives the perplexity, and the mean over seeds is geometric.
    """

    name: str
    unit: str
    counted: str
    averaged: bool = False
    tested: tuple[str, ...] | None = None
    show: Callable[[Any], Any] = percent

    @property
    def title(self) -> str:
        return f"{self.name} in {self.unit}" if self.unit else self.name


# Data that a result depends on beside the test set: the training set, the dev set where it chooses weights, banks of
# noise, and the texts of a language model that helps in the evaluation.
TRAINED_ON = ("train_data", "dev_data", "noise_data", "lm_data")


class Evaluation(NamedTuple):
    """How a run was evaluated, and its counts.

    settings: plain options, kept in results as "decode".
    fields: further plain values of the results line.
    weights: fingerprint of the checkpoint.
    conditions: by name at least "errors" and "reference", a number for each example, and "data", the fingerprint of
        the test set.
    """

    settings: dict[str, Any]
    fields: dict[str, Any]
    weights: str
    conditions: dict[str, dict[str, Any]]


class Planned(NamedTuple):
    """What a modality adds to the plan of a table.

    conditions: as `evaluate` takes them, NAME or NAME=PATH.
    fields: entries of a results line, including "decode", that identify this evaluation.
    evaluate, score, analyse: further arguments of those commands.
    lists: further lists of commands by name, such as those that make test sets; a command is its name and arguments.
    needed: like `lists`, but left empty if no run is missing.
    """

    conditions: list[str]
    fields: dict[str, Any]
    evaluate: list[str] = []
    score: list[str] = []
    analyse: list[str] = []
    lists: dict[str, list[list[str]]] = {}
    needed: dict[str, list[list[str]]] = {}


def lazily(module: str, name: str = "") -> Any:
    """A method or a class of a modality that lies in a module of its package, and is imported at its first use. name:
    in that module, where it is not the name of the method."""
    return _Lazily(module, name)


class _Lazily:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(importlib.import_module(f"{owner.__module__}.{self.module}"), self.name)


class Modality:
    """The interface, with what holds unless a modality says otherwise. Its options come from
    `add_arguments`, for the command of that name, and reach the method as the parsed arguments."""

    name: str
    metric: MetricSpec
    # Settings in which a run may differ from the run that trained its clean phase: that phase does not look at them.
    paired_keys = frozenset({"objective", "noise", "smoothness"})

    @property
    def Config(self) -> type:
        """The frozen dataclass of an experiment; its field `task` is the name of the modality."""
        raise NotImplementedError

    def task(self, config: Any, shard: Shard) -> Task:
        """What the training loop drives: module, loader, evaluation on dev, state (see `irl.training.task`)."""
        raise NotImplementedError

    def add_arguments(self, command: str, parser: argparse.ArgumentParser) -> None:
        """Options of this modality for "validate", "evaluate", "plan", "score" or "analyse"."""

    def prepare(self, config: Any, check: Sequence[str], methods: Sequence[Any] = ()) -> str:
        """Stage 3: what training needs of its training set beside the examples, such as a vocabulary. check: test sets
        that must fit it; methods: further configurations that will need it. Returns one line that says what was
        written."""
        self._refuse("prepare")

    def validate(self, args: argparse.Namespace) -> Iterator[str]:
        """Stage 1: a line for each of args.paths. Raises UserError for the first thing that is wrong."""
        self._refuse("validate")

    def planned(self, args: argparse.Namespace) -> Planned:
        """How `irl plan` has runs evaluated. Raises UserError for unknown conditions, before anything is trained
        for them."""
        self._refuse("plan")

    def train_data(self, config: Any) -> dict[str, str]:
        """Fingerprints, by the names of `TRAINED_ON`, of what the weights of a configuration depend on as it is now;
        empty for what is not there."""
        return {}

    def test_data(self, conditions: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
        """Fingerprints of the test data, as they are now, by the names of `conditions`, as `evaluate` takes them; empty
        for what is not there. Raises UserError for test data that were made from others than there are now."""
        return {}

    def same_evaluation(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        """Whether two results lines, or wanted runs, were evaluated in the same way."""
        return bool(a["decode"] == b["decode"])

    def comparable(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of an evaluation that must be equal for all rows of a table, and are described below it."""
        return dict(settings)

    def evaluate(self, args: argparse.Namespace) -> None:
        """Stage 5: evaluate args.checkpoint under args.conditions into args.out. What is done already is kept."""
        self._refuse("evaluate")

    def read_evaluation(self, run: Path, args: argparse.Namespace) -> Evaluation:
        """Stage 6: what `evaluate` left in RUN/evaluate for args.conditions."""
        self._refuse("score")

    def layer_pairs(self, run: Path, args: argparse.Namespace) -> Iterator[LayerPair]:
        """Stage 7: batches of the test set args.clean beside their noisy copies args.noisy, as the model of a run sees
        them."""
        self._refuse("analyse")

    def pairs_fingerprint(self, args: argparse.Namespace) -> dict[str, Any]:
        """What `layer_pairs` depends on beside the weights of a run: by it finished measurements are known."""
        self._refuse("analyse")

    def describe(self, settings: Mapping[str, Any]) -> str:
        """One sentence for people about the settings of an evaluation."""
        return ""

    def table_sections(self, table: Any) -> list[str]:
        """Markdown lines of sections that only this modality's tables have."""
        return []

    def heading(self, condition: str) -> str:
        """A condition as the head of a column."""
        return condition

    def scale(self, condition: str) -> tuple[str, float] | None:
        """The scale on which a condition lies, as the label of an axis, and its place there; None for most."""
        return None

    def example(self, table: Any, exp: Path, data: Path, condition: str) -> str:
        """One test example with the output of every method, as text, where that can be printed."""
        return ""

    def fingerprint(self, content: dict[str, Any]) -> dict[str, Any]:
        """The part of a configuration's changes from its defaults that tells runs apart."""
        return content

    def _refuse(self, command: str) -> NoReturn:
        raise UserError(f"task {self.name}: there is nothing to {command}")
