"""Pairs of clean examples and their noisy copies, of anyone's data set; and batches of them.

A row is (clean, [noisy, ...]): the data set's own item, and for each copy the same item with a noisy input. A batch is
(clean, [noisy, ...]) likewise, each made by the same collate function.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from irl.core.epoch import SharedEpoch, as_epoch
from irl.core.logging import logger

Collate = Callable[[list[Any]], Any]
Key = int | str | None


class Copies:
    """Makes the noisy copies of items; arguments as of `paired`. An input is what the noise takes, or Hugging Face's
    audio, a mapping with "array" and "sampling_rate"."""

    def __init__(self, noise: Any, copies: int, key: Key, seed: int, epoch: int | None) -> None:
        if not callable(noise):
            raise ValueError(f"noise: expected a noise of irl.noise, found {noise!r:.80}")
        if not isinstance(copies, int) or copies < 1:
            raise ValueError(f"copies: expected a whole number from 1 on, found {copies!r}")
        self.noise, self.copies, self.key, self.seed = noise, copies, key, seed
        self.fixed = None if epoch is None else as_epoch(epoch)
        self.shared = SharedEpoch()

    @property
    def epoch(self) -> int:
        return self.shared.get() if self.fixed is None else self.fixed

    def row(self, item: Any, example: Any) -> tuple[Any, list[Any]]:
        """The item, its audio decoded, and its noisy copies. example: its id, None for a hash of its input."""
        value = input_of(item, self.key)
        if hasattr(value, "get_all_samples"):  # Hugging Face's audio since datasets 4, decoded by torchcodec
            samples = value.get_all_samples()
            value = {"array": samples.data.mean(0), "sampling_rate": samples.sample_rate}
            item = _replaced(item, self.key, value)
        ids = None if example is None else [example]
        x = value["array"] if _is_audio(value) else value
        if _is_audio(value):
            rate = getattr(self.noise, "rate", None)
            if rate is not None and rate != value["sampling_rate"]:
                raise ValueError(f"example {example}: {value['sampling_rate']} Hz, but the noise is for {rate} Hz")
        found = []
        for copy in range(1, self.copies + 1):
            noisy = self.noise(x, ids=ids, epoch=self.epoch, copy=copy, seed=self.seed)
            new = {"array": noisy, "sampling_rate": value["sampling_rate"]} if _is_audio(value) else noisy
            found.append(_replaced(item, self.key, new))
        return item, found


def _is_audio(value: Any) -> bool:
    return isinstance(value, Mapping) and "array" in value


def _place(item: Any, key: Key) -> Key:
    """Where the input is in an item: first in a tuple, unless a key says otherwise; None: the item is the input."""
    if key is None and isinstance(item, Mapping):
        raise ValueError(f"key: name the input among {', '.join(map(str, item))}")
    return 0 if key is None and isinstance(item, (tuple, list)) else key


def input_of(item: Any, key: Key) -> Any:
    """The input in an item, or the value of another key. Raises ValueError where there is none."""
    key = _place(item, key)
    if key is None:
        return item
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        what = f"the keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"{type(item).__name__}"
        raise ValueError(f"key: no {key!r} in an item of the data set, which has {what}") from None


def _replaced(item: Any, key: Key, value: Any) -> Any:
    """The item with another input."""
    key = _place(item, key)
    if key is None:
        return value
    if isinstance(item, Mapping):
        return {**item, key: value}
    if hasattr(item, "_replace"):
        return item._replace(**{item._fields[key]: value})
    return type(item)([*item[:key], value, *item[key:][1:]])


class Pairs(Dataset):
    """See `paired`."""

    def __init__(self, dataset: Any, copies: Copies, ids: Any, collate: Collate | None, pad: int) -> None:
        self.dataset, self.copies, self.ids, self.base, self.pad = dataset, copies, ids, collate, pad
        self.warned = False

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, as a distributed sampler's; workers that live on see it too."""
        self.copies.shared.set(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def collate(self, rows: list[Any]) -> tuple[Any, list[Any]]:
        """Rows -> a batch, `collate_pairs`: for DataLoader's collate_fn."""
        return collate_pairs(rows, self.base, self.copies.key, self.pad)

    def _row(self, item: Any, example: Any) -> tuple[Any, list[Any]]:
        if isinstance(self.ids, (str, int)):
            example = input_of(item, self.ids)
        return self.copies.row(item, example)


class MapPairs(Pairs):
    """Of a data set with numbered items."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.ids is not None and not isinstance(self.ids, (str, int)) and len(self.ids) != len(self.dataset):
            raise ValueError(f"ids: expected {len(self.dataset)}, one for each item, found {len(self.ids)}")
        # The epoch after that in which each item was drawn last, seen by all workers.
        self.drawn = torch.zeros(len(self.dataset), dtype=torch.int32).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[Any, list[Any]]:
        if self.copies.fixed is None:
            self._note(int(i))
        own = self.ids is not None and not isinstance(self.ids, (str, int))
        return self._row(self.dataset[i], self.ids[i] if own else int(i))

    def _note(self, i: int) -> None:
        epoch = self.copies.epoch
        if self.drawn[i] == epoch + 1 and not self.warned:
            self.warned = True
            logger.warning(
                "item %d is drawn again in epoch %d, with the same noise: call set_epoch(epoch) of the pairs before "
                "each epoch; where the noise shall stay the same, give epoch=0 to paired",
                i,
                epoch,
            )
        self.drawn[i] = epoch + 1


class StreamPairs(Pairs, IterableDataset):
    """Of a data set that is read in its own order."""

    def __iter__(self) -> Iterator[tuple[Any, list[Any]]]:
        for item in self.dataset:
            yield self._row(item, None)


def paired(
    dataset: Any,
    noise: Any,
    copies: int = 1,
    *,
    key: Key = None,
    ids: Any = None,
    seed: int = 0,
    epoch: int | None = None,
    collate: Collate | None = None,
    pad: int = 0,
) -> Pairs:
    """A torch data set whose items are (clean, [noisy, ...]): the item, and `copies` of it with a noisy input.

        pairs = paired(dataset, noise)
        loader = DataLoader(pairs, batch_size=8, collate_fn=pairs.collate, num_workers=2, persistent_workers=True)
        pairs.set_epoch(epoch)
        for (waves, lens, labels), [(noisy, _, _)] in loader: ...

    dataset: of anybody, with numbered items or iterable. An item is an input, or a tuple, or a mapping.
    noise: of `irl.noise`, or any function with its signature. copies: number of noisy copies.
    key: place or name of the input in an item; in a tuple it is the first unless said otherwise.
    ids: None: an item's number (of iterable data, a hash of the input); the name of the item's id; or a sequence with
    an id for each item. seed: of the draws.
    epoch: None follows `set_epoch`, which is to be called before each epoch; a number keeps the noise the same, as for
    a dev set.
    collate, pad: see `collate_pairs`.
    """
    arguments = (dataset, Copies(noise, copies, key, seed, epoch), ids, collate, pad)
    numbered = hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset)
    if not numbered and ids is not None and not isinstance(ids, (str, int)):
        raise ValueError("ids: of an iterable data set expected the name of the item's id, found a sequence")
    return MapPairs(*arguments) if numbered else StreamPairs(*arguments)


class Padded(NamedTuple):
    """Sequences as a batch: (N, ..., T), padded at the end, and int64 lengths (N,)."""

    x: Tensor
    lens: Tensor


def collate_pairs(
    rows: Sequence[Any], collate: Collate | None = None, key: Key = None, pad: int = 0
) -> tuple[Any, list[Any]]:
    """Rows (clean, [noisy, ...]), or mappings with these keys, -> (clean batch, [noisy batch, ...]).

    collate: makes a batch of a list of items, for each view alike. By default inputs of one dimension (T,), such as
    waves and token ids, are padded with `pad`, and their lengths (N,) follow the input in a tuple, or stand under
    KEY_lens in a mapping; what has equal shapes is stacked; the rest stays a list. key: place or name of the input.
    Raises ValueError for rows of other forms.
    """
    pairs = [_pair_of(row) for row in rows]
    make = collate or (lambda items: _collate(items, key, pad))
    return make([clean for clean, _ in pairs]), [make(list(items)) for items in zip(*(noisy for _, noisy in pairs))]


def is_pair(x: Any) -> bool:
    """Whether a row or a batch is (clean, [noisy, ...]). A list of numbers or words is a label, no list of copies."""
    if not (isinstance(x, (tuple, list)) and len(x) == 2 and isinstance(x[1], (tuple, list))):
        return False
    return not any(isinstance(copy, (int, float, str)) for copy in x[1])


def _pair_of(row: Any) -> tuple[Any, Sequence[Any]]:
    if isinstance(row, Mapping) and "clean" in row and isinstance(row.get("noisy"), (tuple, list)):
        return row["clean"], row["noisy"]
    if is_pair(row):
        return row[0], row[1]
    if isinstance(row, Mapping):
        found = f"the keys {', '.join(map(str, row))}"
    elif isinstance(row, (tuple, list)):
        found = f"{type(row).__name__} of {', '.join(type(x).__name__ for x in row[:5])}"
    else:
        found = type(row).__name__
    raise ValueError(
        f"expected rows (clean, [noisy, ...]), found {found}: wrap the data set, that of evaluation too: "
        "irl.noise.paired(dataset, noise)"
    )


def _collate(items: list[Any], key: Key, pad: int) -> Any:
    first = items[0]
    if isinstance(first, Mapping):
        batch: dict[str, Any] = {}
        for name in first:
            values = [item[name] for item in items]
            found = _inputs(values, pad) if name == key else _stacked(values)
            batch |= {name: found.x, f"{name}_lens": found.lens} if isinstance(found, Padded) else {name: found}
        return batch
    if not isinstance(first, (tuple, list)):
        return _inputs(items, pad)
    parts: list[Any] = []
    for place, column in enumerate(zip(*items)):
        found = _inputs(list(column), pad) if place == (key or 0) else _stacked(list(column))
        parts.extend([found.x, found.lens] if isinstance(found, Padded) else [found])
    return tuple(parts)


def _inputs(values: list[Any], pad: int) -> Any:
    tensors = [torch.as_tensor(v["array"] if _is_audio(v) else v) for v in values]
    if tensors[0].dim() != 1 and not (tensors[0].dim() == 2 and len(tensors[0]) == 1):
        return _stacked(tensors)
    lens = torch.tensor([t.shape[-1] for t in tensors])
    padded = [torch.nn.functional.pad(t, (0, int(lens.max()) - t.shape[-1]), value=pad) for t in tensors]
    return Padded(torch.stack(padded), lens)


def _stacked(values: list[Any]) -> Any:
    try:
        return default_collate(values)
    except (TypeError, RuntimeError):
        return values
