"""Many strings in one array of bytes: a str object takes some 50 bytes more, in the process that reads them, and again
in every worker that touches it, because a count of references lies beside its characters."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Any, Iterable, Iterator, Sequence


class Strings(Sequence[str]):
    """Strings by index. A slice is a list."""

    def __init__(self, items: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", (0,))
        for item in items:
            self.append(item)

    def append(self, item: str) -> None:
        self._bytes += item.encode()
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        for begin, end in pairwise(self._ends):
            yield self._bytes[begin:end].decode()

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"expected an index below {len(self)}, found {i}")
        i %= len(self)
        return self._bytes[self._ends[i] : self._ends[i + 1]].decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strings) and self._ends == other._ends and self._bytes == other._bytes
