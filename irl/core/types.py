"""Types of configurations: constrained numbers, and dataclasses that hold their fields to their types.

A field's type says everything about its value alone: `Literal[...]`, `Count`, `Fraction`, `tuple[Positive, ...]`,
another configuration. Checks between fields are all that is left to a `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Callable, Literal, Mapping, TypeVar, Union

T = TypeVar("T")


class FieldError(ValueError):
    """A value that does not fit its field, in one line. key: dotted, from the configuration that raises it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


@dataclass(frozen=True)
class Rule:
    """A condition on a value. text: completes "expected int ...", as in "expected int >= 1"."""

    text: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    return Rule(f">= {low:g}", lambda value: value >= low)


def within(low: float, high: float, ends: str = "[]") -> Rule:
    """An interval. ends: "[]" closed, "[)" without its upper end, "(]" without its lower end."""

    def holds(value: float) -> bool:
        return (low <= value if ends[0] == "[" else low < value) and (value <= high if ends[1] == "]" else value < high)

    return Rule(f"in {ends[0]}{low:g}, {high:g}{ends[1]}", holds)


Natural = Annotated[int, at_least(0)]
Count = Annotated[int, at_least(1)]
Seed = Annotated[int, Rule("from -2^63 to 2^63 - 1", lambda value: -(2**63) <= value < 2**63)]
NonNegative = Annotated[float, at_least(0)]
Positive = Annotated[float, Rule("> 0", lambda value: value > 0)]
Fraction = Annotated[float, within(0, 1)]
BelowOne = Annotated[float, within(0, 1, "[)")]  # a share that leaves a rest, such as a dropout rate
Rate = Annotated[float, within(0, 1, "(]")]  # a factor that may leave a value as it is, but not end it
NonEmpty = Rule("that is not empty", lambda value: len(value) > 0)


class Checked:
    """Base class of configurations, which are frozen dataclasses: converts every field to its type when constructed.

    Raises FieldError for a value that does not fit. Lists become tuples and whole numbers become floats.
    """

    def __post_init__(self) -> None:
        for name, kind in hints(type(self)).items():
            object.__setattr__(self, name, convert(kind, getattr(self, name), name))


def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    known = typing.get_type_hints(cls, include_extras=True)
    return {field.name: known[field.name] for field in dataclasses.fields(cls)}


hints: Callable[[type], dict[str, Any]] = functools.cache(_hints)


def section(cls: type, name: str) -> type | None:
    """The dataclass that a field holds, None for a field that holds a value."""
    kind = hints(cls).get(name)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def build(cls: type[T], content: Mapping[str, Any]) -> T:
    """A dataclass from plain content. Raises FieldError, or the ValueError of a check between fields."""
    for key in content:
        if key not in hints(cls):
            raise FieldError(str(key), f"unknown key, known are {', '.join(hints(cls))}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in content:
            raise FieldError(field.name, "expected a value, but the key is missing")
    return cls(**content)


def convert(kind: Any, value: Any, key: str) -> Any:
    """A value as its type, key being its name in errors. Raises FieldError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted = convert(arguments[0], value, key)
        for rule in arguments[1:]:
            if not rule.holds(converted):
                raise _mismatch(key, f"{_name(arguments[0])} {rule.text}", value)
        return converted
    if origin in (Union, types.UnionType):
        (other,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else convert(other, value, key)
    if value is None:
        raise FieldError(key, "expected a value, found null")
    if origin is Literal:
        # By type as well: True == 1.
        if not any(type(value) is type(known) and value == known for known in arguments):
            raise _mismatch(key, f"one of {', '.join(known or repr(known) for known in arguments)}", value)
        return value
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _mismatch(key, "a list", value)
        return tuple(convert(arguments[0], item, key) for item in value)
    if origin is dict:
        return _mapping(arguments[1], value, key)
    if kind is float:
        return _number(value, key)
    if type(value) is not kind:
        raise _mismatch(key, _name(kind), value)
    return value


def _section(kind: Any, value: Any, key: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _mismatch(key, "keys below it", value)
    try:
        return build(kind, value)
    except FieldError as error:
        raise FieldError(f"{key}.{error.key}", error.problem) from None
    except ValueError as error:
        raise FieldError(key, str(error)) from None


def _mapping(kind: Any, value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _mismatch(key, "names with values, as {NAME: VALUE}", value)
    for name, item in value.items():
        if item is None and ":" in name:
            # YAML reads {a:1} as the key "a:1" without a value.
            raise FieldError(key, f"expected a space after the colon, as in {{{name.replace(':', ': ', 1)}}}, "
                                  f"found {{{name}}}")  # fmt: skip
    return {name: convert(kind, item, f"{key}.{name}") for name, item in value.items()}


def _number(value: Any, key: str) -> float:
    # YAML 1.1 reads 1e-3 as a string.
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
        value = float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _mismatch(key, "float", value)
    if not math.isfinite(value):
        raise _mismatch(key, "a finite float", value)
    return float(value)


def _name(kind: Any) -> str:
    return "a list" if typing.get_origin(kind) is tuple else kind.__name__


def _mismatch(key: str, expected: str, found: Any) -> FieldError:
    return FieldError(key, f"expected {expected}, found {found!r}")
