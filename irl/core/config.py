"""Configuration: YAML files onto frozen dataclasses, strictly, with one-line errors.

A file may name another as `base:` and then holds only what differs from it. `key=value` overrides come last. Types are
checked by jsonargparse; this front finds the file that an offending key came from and says what is allowed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing
from pathlib import Path
from typing import Any, Mapping, Sequence, TypeVar

from irl.core.errors import UserError

T = TypeVar("T")
COMMAND_LINE = "command line"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, by the safe loader."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def sources(path: Path, overrides: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """What a configuration is made of, each with its name, the weakest first: base file, file, command line."""
    import yaml

    content = read_yaml(path)
    base = content.pop("base", None)
    found = [(str(path), content)]
    if base is not None:
        base_path = path.parent / str(base)
        base_content = read_yaml(base_path)
        if "base" in base_content:
            raise UserError(f"{base_path}: is the base of {path} and may not have a base itself")
        found.insert(0, (str(base_path), base_content))
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
        try:
            node[last] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            raise UserError(f"{COMMAND_LINE}: {key}: {value!r} is not valid YAML") from None
        # YAML 1.1 reads 1e-3 as a string.
        if isinstance(node[last], str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", node[last]):
            node[last] = float(node[last])
    return found + [(COMMAND_LINE, given)]


def _nested(cls: type, name: str) -> type | None:
    hint = typing.get_type_hints(cls).get(name)
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _check_keys(cls: type, content: Mapping[str, Any], where: str, prefix: str = "") -> None:
    names = [f.name for f in dataclasses.fields(cls)]
    for key, value in content.items():
        if key not in names:
            raise UserError(f"{where}: unknown key {prefix}{key}, known are {', '.join(names)}")
        inner = _nested(cls, key)
        if value is None and type(None) not in typing.get_args(typing.get_type_hints(cls)[key]):
            raise UserError(f"{where}: {prefix}{key}: expected a value, found null")
        if inner is not None:
            if not isinstance(value, dict):
                raise UserError(f"{where}: {prefix}{key}: expected keys below it, found {value!r}")
            _check_keys(inner, value, where, f"{prefix}{key}.")


def _merge(cls: type, weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; a value, also a mapping such as `distance`, is replaced as a whole."""
    merged = dict(weak)
    for key, value in strong.items():
        inner = _nested(cls, key)
        merged[key] = _merge(inner, weak.get(key, {}), value) if inner else value
    return merged


def _origin(parts: Sequence[tuple[str, Mapping[str, Any]]], key: str) -> str:
    """The strongest source that sets a dotted key, or the file itself where none does."""
    for name, content in reversed(parts):
        node: Any = content
        for step in key.split("."):
            node = node.get(step, None) if isinstance(node, Mapping) else None
        if node is not None:
            return name
    return next(name for name, _ in reversed(parts) if name != COMMAND_LINE)


def load(cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """The configuration in a file with overrides. Raises UserError: file, key, what is expected and what was found."""
    return resolve(cls, sources(Path(path), overrides))


def from_dict(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """A configuration from its resolved form (`to_dict`), as a checkpoint holds it."""
    return resolve(cls, [(where, dict(content))])


def resolve(cls: type[T], parts: Sequence[tuple[str, dict[str, Any]]]) -> T:
    import jsonargparse

    merged: dict[str, Any] = {}
    for name, content in parts:
        _check_keys(cls, content, name)
        merged = _merge(cls, merged, content)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, None)
    try:
        values = parser.parse_object(merged)
    except (jsonargparse.ArgumentError, TypeError) as error:
        text = str(error)
        required = re.search(r"required: (.*)", text)
        key = re.search(r'key "([^"]+)"', text)
        if required:
            raise UserError(f"{parts[-2 if len(parts) > 1 else -1][0]}: missing key {required[1]}") from None
        name = key[1] if key else "?"
        expected = "; ".join(dict.fromkeys(re.findall(r"Expected an? (.*?)\.? *(?:Got|$)", text, flags=re.M)))
        expected = re.sub(r"<class '(\w+)'>", r"\1", expected) or " ".join(text.split())
        found: Any = merged
        for step in name.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        raise UserError(f"{_origin(parts, name)}: {name}: expected {expected}, found {found!r}") from None
    return _build(cls, values, parts, "")


def _build(cls: type[T], values: Any, parts: Sequence[tuple[str, dict[str, Any]]], prefix: str) -> T:
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        value, inner = getattr(values, field.name), _nested(cls, field.name)
        arguments[field.name] = _build(inner, value, parts, f"{prefix}{field.name}.") if inner else value
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        section = f"{prefix.rstrip('.')}: " if prefix else ""
        # The sentence names the key; the source is the strongest one that sets a key it names.
        named = [f.name for f in dataclasses.fields(cls) if f.name in str(error)]  # type: ignore[arg-type]
        key = prefix + named[0] if named else prefix.rstrip(".")
        raise UserError(f"{_origin(parts, key)}: {section}{error}") from None


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
