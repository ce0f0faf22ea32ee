"""Docstrings as they are written here, for a page: each argument that a paragraph explains becomes a line of a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = r"(?:^|(?<=[.;)] )|(?<=\n))((?:{names})(?:, (?:{names}))*): "


def with_list(text: str, names: list[str]) -> str:
    """A docstring in Markdown. Indented blocks and paragraphs that explain no argument stay as they are."""
    entry = re.compile(ENTRY.format(names="|".join(map(re.escape, names)))) if names else None
    return "\n\n".join(_paragraph(block, entry) for block in re.split(r"\n\s*\n", text.strip("\n")))


def _paragraph(block: str, entry: re.Pattern[str] | None) -> str:
    if block.startswith("    ") or entry is None or not entry.search(block):
        return block
    head, *rest = entry.split("\n".join(line.strip() for line in block.splitlines()))
    lines = [f"- **{name}**: {' '.join(text.split())}" for name, text in zip(rest[::2], rest[1::2])]
    return "\n".join([head.strip(), "", *lines] if head.strip() else lines)


class Arguments(griffe.Extension):
    """Rewrites the docstring of every function and class that is loaded."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.is_alias or obj.docstring is None or not (obj.is_function or obj.is_class):
            return
        if obj.is_class:
            functions = [m for name, m in obj.members.items() if name in ("__init__", "__call__") and m.is_function]
            names = [name for name, m in obj.members.items() if m.is_attribute] + [
                p.name for f in functions for p in f.parameters
            ]
        else:
            names = [parameter.name for parameter in obj.parameters]
        obj.docstring.value = with_list(obj.docstring.value, sorted({n.lstrip("*") for n in names} - {"self"}))
