"""Configuration: YAML files onto frozen dataclasses, strictly, with one-line errors.

A file may name another as `base:` and then holds only what differs from it; bases may be chained and lie in other
folders. `key=value` overrides come last.

A folder of configurations, such as `conf/mini`, holds one corpus or schedule; `conf/methods` beside it holds what all
of them share. A file that a folder lacks is taken from `methods/`, as if it lay in the folder: so
`conf/mini/baseline.yaml` is `conf/methods/baseline.yaml`, and the `base: irl_batching.yaml` in it is
`conf/mini/irl_batching.yaml`. For a base without a folder is looked for in the folder that was asked for, then in
`methods/`, then beside the file that names it.

The types of the fields carry the checks (see irl.core.types). This module finds the source of an offending key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os.path
import re
import types
from pathlib import Path
from typing import Any, Mapping, Sequence, TypeVar

from irl.core.errors import UserError
from irl.core.text_files import read_text
from irl.core.types import FieldError, build, hints, section

T = TypeVar("T")
# The name of a source and its keys; a configuration is made of several, the weakest first.
Source = tuple[str, dict[str, Any]]
COMMAND_LINE = "command line"
SHARED = "methods"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, by the safe loader."""
    import yaml

    text = read_text(path)
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # also a ValueError for a date that there is not, and more
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def sources(path: Path, overrides: Sequence[str] = ()) -> list[Source]:
    """The sources of a configuration, the weakest first: its bases, the file itself, the command line."""
    found: list[Source] = []
    chain: list[Path] = []
    here = _find([path])
    while True:
        chain.append(here)
        if here in chain[:-1]:
            raise UserError(f"{chain[-2]}: base: a circle, {' -> '.join(map(str, chain[chain.index(here):]))}")
        content = read_yaml(here)
        base = content.pop("base", None)
        found.insert(0, (str(here), content))
        if base is None:
            return [*found, (COMMAND_LINE, parse_overrides(overrides))]
        if not isinstance(base, str):
            raise UserError(f"{here}: base: expected the name of a file, found {base!r}")
        beside = here.parent / base
        here = _find([beside] if Path(base).name != base else [path.parent / base, beside], by=here)


def _find(candidates: Sequence[Path], by: Path | None = None) -> Path:
    """The first candidate that exists, in its folder or in `methods/` beside the folder. by: the file that names it."""
    folders = []
    for path in candidates:
        for folder in (path.parent, path.parent / ".." / SHARED):
            folders.append(Path(os.path.normpath(folder)))
            if (folders[-1] / path.name).is_file():
                return folders[-1] / path.name
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    text = f"{by}: base: {candidates[-1]}" if by else f"{candidates[-1]}"
    raise UserError(f"{text}: no such configuration file" + (f", known are {', '.join(known)}" if known else ""))


class Raw(str):
    """The value of an override as it was given. The type of its field tells how it is read: see `_parsed`."""


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Nested keys from `a.b=value`, values being Raw."""
    given: dict[str, Any] = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"{COMMAND_LINE}: expected key=value, found {item!r}")
        *parents, last = key.split(".")
        node = given
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{COMMAND_LINE}: {key}: {parent} was given a value and keys both")
        node[last] = Raw(value)
    return given


def _parsed(kind: Any, value: Any, key: str) -> Any:
    """Raw values as YAML; but a text as it is, for a path may hold what YAML reads as a comment or a mapping. What
    stands between quotes is YAML's there too, and numbers and null are, which are no texts."""
    import yaml

    if isinstance(value, dict):
        inner = hints(kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else {}
        return {name: _parsed(inner.get(name), item, f"{key}.{name}" if key else name) for name, item in value.items()}
    if not isinstance(value, Raw):
        return value
    raw = str(value)
    quoted = re.fullmatch(r"'.*'|\".*\"", raw, re.S)
    try:
        found = yaml.safe_load(raw) if raw else raw
    except Exception:  # as in read_yaml
        if kind is str and not quoted:
            return raw
        raise UserError(f"{COMMAND_LINE}: {key}: {raw!r} is not valid YAML") from None
    if kind is str and not quoted and (" " in raw or not isinstance(found, (int, float, types.NoneType))):
        return raw
    return found


def load(cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """The configuration in a file with overrides. Raises UserError: file, key, what is expected and what was found."""
    return resolve(cls, sources(Path(path), overrides))


def from_dict(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """A configuration from its resolved form (`to_dict`), as a checkpoint holds it."""
    return resolve(cls, [(where, dict(content))])


def resolve(cls: type[T], parts: Sequence[Source]) -> T:
    """The configuration that the sources make together."""
    parts = [(name, _parsed(cls, content, "")) for name, content in parts]
    merged: dict[str, Any] = {}
    for name, content in parts:
        merged = _merge(cls, merged, content, name)
    try:
        return build(cls, merged)
    except FieldError as error:
        raise UserError(f"{_origin(cls, parts, error.key, error.problem)}: {error}") from None
    except ValueError as error:
        raise UserError(f"{_origin(cls, parts, '', str(error))}: {error}") from None


def _merge(
    cls: type, weak: Mapping[str, Any], strong: Mapping[str, Any], name: str, prefix: str = ""
) -> dict[str, Any]:
    """Sections are merged key by key; a value, also a mapping such as `distance`, is replaced as a whole."""
    merged = dict(weak)
    for key, value in strong.items():
        if key not in hints(cls):
            raise UserError(f"{name}: unknown key {prefix}{key}, known are {', '.join(hints(cls))}")
        inner = section(cls, key)
        if inner is not None:
            if not isinstance(value, dict):
                raise UserError(f"{name}: {prefix}{key}: expected keys below it, found {value!r}")
            value = _merge(inner, weak.get(key, {}), value, name, f"{prefix}{key}.")
        merged[key] = value
    return merged


def _origin(cls: type, parts: Sequence[Source], key: str, problem: str) -> str:
    """The strongest source that sets a field, or that sets a key of a section that the problem names; else the file."""
    path: list[str] = []
    kind: type | None = cls
    for step in key.split(".") if key else ():
        if kind is not None:  # what follows a field's name is a key of its value
            path, kind = [*path, step], section(kind, step)
    words = set(re.findall(r"\w+", problem))
    for name, content in reversed(parts):
        node: Any = content
        for step in path[:-1]:
            node = node.get(step, {})
        if path and path[-1] not in node:
            continue
        node = node[path[-1]] if path else node
        if kind is None or words & node.keys():
            return name
    return next((name for name, _ in reversed(parts) if name != COMMAND_LINE), COMMAND_LINE)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dicts, lists and values, such as JSON and YAML hold."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def changes(config: Any) -> dict[str, Any]:
    """The values that differ from their defaults, nested like `to_dict`."""
    found = {}
    value: Any
    default: Any
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            value, default = changes(value), {}
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if value != default:
            found[field.name] = value
    return json.loads(json.dumps(found))


def digest(content: Any) -> str:
    """A short hash of plain content, to tell configurations apart."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
