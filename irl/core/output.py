"""Output, views of it, and the small helpers for trees of tensors that all floors share."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any, Callable, Collection, Mapping, MutableMapping, NamedTuple, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

# The remedy where views cannot be stacked.
SEPARATE = "IRLLoss(passes='separate')"


class Output(NamedTuple):
    """What every model returns (law 3).

    logits: the model's output, batch first; for a tapped foreign model whatever it returned.
    hidden: hidden states by name in forward order, batch first, never detached; None for a layer that was skipped.
    lens: int64 (N,) valid lengths by layer name, for layers (N, T, ...); a layer without an entry has no padding.
    extra: further outputs by name, such as "ctc" logits.
    """

    logits: Any
    hidden: Mapping[str, Tensor]
    lens: Mapping[str, Tensor] = {}
    extra: Mapping[str, Tensor] = {}

    def named(self) -> dict[str, Any]:
        """Everything a distance can be taken of, by name: hidden states, extra outputs and "logits"; where the model
        returned a mapping or an object that holds tensors by name, its own logits."""
        logits = self.logits
        if isinstance(logits, Mapping):
            logits = logits.get("logits", logits)
        elif _is_dataclass(logits):
            logits = getattr(logits, "logits", logits)
        return {**self.hidden, **self.extra, "logits": logits}

    def views(self, count: int, rows: Collection[int] = (1,)) -> list[Output]:
        """The outputs of each of `count` views out of one over stacked views, (count * N, ...) -> (N, ...) each.

        rows: the numbers of samples N that the inputs allow. The views share memory with the stacked output, so
        autograd refuses to change one of several in place.
        """
        if count == 1:
            return [self]
        parts: list[tuple[Tensor, ...]] = []

        def split(x: Tensor) -> Tensor:
            if x.dim() == 0 or all(len(x) % (count * n) for n in rows):
                raise ValueError(
                    f"the model returned a tensor of shape {tuple(x.shape)} for {count} views stacked along the first "
                    "dimension; every output must have one row a sample. A model that computes its own loss, or whose "
                    f"batch is another dimension, needs {SEPARATE}"
                )
            # One unbind for all views: its backward stacks their gradients once, where slices would each be padded
            # with zeros and then added.
            parts.append(x.unflatten(0, (count, -1)).unbind(0))
            return x

        tree_map(split, self)
        views = []
        for i in range(count):
            own = iter([part[i] for part in parts])
            views.append(tree_map(lambda _, own=own: next(own), self))
        return views


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply function to corresponding tensors of trees of tuples, lists, mappings and dataclasses, which come out as
    what they were; other leaves must be equal."""
    if isinstance(tree, Tensor):
        return function(tree, *rest)
    if isinstance(tree, PackedSequence):
        raise ValueError(f"a PackedSequence has no dimension of samples: give it padded, or use {SEPARATE}")
    if isinstance(tree, Mapping):
        for other in rest:
            if not isinstance(other, Mapping) or tree.keys() != other.keys():
                raise ValueError(f"views differ in structure: {_brief(tree)} against {_brief(other)}")
        values = {key: tree_map(function, value, *(other[key] for other in rest)) for key, value in tree.items()}
        return _rebuilt(tree, values)
    if isinstance(tree, (tuple, list)):
        for other in rest:
            if not isinstance(other, (tuple, list)) or len(tree) != len(other):
                raise ValueError(f"views differ in structure: {_brief(tree)} against {_brief(other)}")
        items = [tree_map(function, *leaves) for leaves in zip(tree, *rest)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if _is_dataclass(tree):
        for other in rest:
            if type(other) is not type(tree):
                raise ValueError(f"views differ in structure: {_brief(tree)} against {_brief(other)}")
        names = [field.name for field in dataclasses.fields(tree) if field.init]
        each = {n: tree_map(function, getattr(tree, n), *(getattr(other, n) for other in rest)) for n in names}
        return dataclasses.replace(tree, **each)
    for other in rest:
        if other is not tree and (isinstance(other, Tensor) or tree != other):
            raise ValueError(
                f"views differ in a value that is not a tensor: {_brief(tree)} against {_brief(other)}; {SEPARATE} "
                "allows it"
            )
    return tree


def _is_dataclass(tree: Any) -> bool:
    return hasattr(tree, "__dataclass_fields__") and not isinstance(tree, type)


def _rebuilt(tree: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping like `tree` with other values. Subclasses, such as the ModelOutput of transformers, keep theirs."""
    if type(tree) is dict or not isinstance(tree, MutableMapping):
        return values
    if _is_dataclass(tree):
        return dataclasses.replace(tree, **values)  # type: ignore[type-var]
    new = copy.copy(tree)
    new.update(values)
    return new


def _brief(tree: Any) -> str:
    if isinstance(tree, Tensor):
        return f"tensor {tuple(tree.shape)}"
    if isinstance(tree, Mapping):
        return f"{type(tree).__name__} of {', '.join(map(str, tree))}"
    return f"{type(tree).__name__} of {len(tree)}" if isinstance(tree, (tuple, list)) else repr(tree)[:80]


def next_example(view: Output) -> Output:
    """Each row replaced by the one after it; lengths are the shorter of the two: both have those frames."""
    return shorter(view, tree_map(lambda x: x.roll(-1, 0) if x.dim() else x, view))


def shorter(a: Output, b: Output) -> Output:
    """b with the lengths of the shorter of the two: both have those frames."""
    return b._replace(lens={name: torch.minimum(n, a.lens[name]) for name, n in b.lens.items() if name in a.lens})


def stack_views(views: Sequence[Any]) -> Any:
    """Concatenate views leaf by leaf along the batch dimension: (N, ...) each -> (len(views) * N, ...).

    Raises ValueError, with the remedy, for views that cannot be stacked.
    """

    def concatenate(*leaves: Any) -> Tensor:
        shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else repr(leaf)[:80] for leaf in leaves]
        if len(set(shapes)) > 1 or not shapes[0]:
            raise ValueError(
                f"the views of a batch must have one shape and a dimension of samples, found {shapes}; pad sequences "
                f"to one length, give settings as numbers, or use {SEPARATE}"
            )
        return torch.cat(leaves)

    if len(views) == 1:
        return views[0]
    kinds = [(Mapping if isinstance(v, Mapping) else tuple if isinstance(v, list) else type(v)).__name__ for v in views]
    if len(set(kinds)) > 1:
        raise ValueError(
            f"views differ in structure: {', '.join(map(_brief, views))}; noisy is a list of copies, each of the same "
            "structure as clean: [noisy]"
        )
    rows = sample_counts(views[0])
    if not rows:
        raise ValueError(f"the views hold no tensor that could be stacked; use {SEPARATE}")
    children = views[0].values() if isinstance(views[0], Mapping) else views[0]
    for child in () if isinstance(views[0], Tensor) or _is_dataclass(views[0]) else children:
        _refuse_values_by_sample(child, rows)
    return tree_map(concatenate, *views)


def tensors_of(tree: Any) -> list[Tensor]:
    """All tensors of a tree, in the order of `tree_map`."""
    found: list[Tensor] = []
    tree_map(found.append, tree)
    return found


def sample_counts(view: Any) -> set[int]:
    """The lengths of the first dimension of a view's tensors: one of them is the number of its samples."""
    return {len(x) for x in tensors_of(view) if x.dim()}


def _refuse_values_by_sample(tree: Any, rows: Collection[int]) -> None:
    """Lists of one string or number a sample, and arrays, would not be stacked with the tensors."""
    plain = isinstance(tree, (list, tuple)) and all(isinstance(x, (str, bytes, int, float, bool)) for x in tree)
    if (plain and len(tree) in rows) or (
        hasattr(tree, "__array__") and getattr(tree, "shape", None) and not isinstance(tree, Tensor)
    ):
        raise ValueError(
            f"a view holds a {type(tree).__name__} of {len(tree)} values, one a sample, which does not stack with the "
            f"tensors; give a tensor, or use {SEPARATE}"
        )
    if isinstance(tree, (list, tuple, Mapping)):
        for child in tree.values() if isinstance(tree, Mapping) else tree:
            _refuse_values_by_sample(child, rows)


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """model(x) for a tensor, model(*x) for a tuple or list, model(**x) for a dict."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def lens_to_mask(lens: Tensor, max_len: int) -> Tensor:
    """Lengths (N,) -> bool (N, max_len), True on valid positions."""
    return torch.arange(max_len, device=lens.device) < lens[:, None]


@functools.lru_cache(maxsize=100)
def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(Nested) tuples of numbers as a tensor, not to be written, made once for each device: a copy to a GPU waits for
    what runs there."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
