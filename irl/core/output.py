"""Types and small tensor helpers shared by all rooms of the house."""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor


class Output(NamedTuple):
    """What every model returns (law 3).

    logits: the model's output, batch first; for a tapped foreign model whatever it returned.
    hidden: hidden states by name in forward order, batch first, never detached.
    lens: int64 (N,) valid lengths by layer name, for layers (N, T, ...); a layer without an entry has no padding.
    extra: further outputs by name, such as "ctc" logits.
    """

    logits: Any
    hidden: Mapping[str, Tensor]
    lens: Mapping[str, Tensor] = {}
    extra: Mapping[str, Tensor] = {}

    def named(self) -> dict[str, Any]:
        """Everything a distance can be taken of, by name: hidden states, extra outputs and "logits"."""
        return {**self.hidden, **self.extra, "logits": self.logits}

    def views(self, count: int) -> list[Output]:
        """The outputs of each of `count` views out of one over stacked views, (count * N, ...) -> (N, ...) each.

        They share memory with the stacked output; autograd refuses to change one of several in place.
        """

        def split(x: Tensor) -> tuple[Tensor, ...]:
            if x.dim() == 0 or len(x) % count:
                raise ValueError(
                    f"the model returned a tensor of shape {tuple(x.shape)} for {count} views stacked along the first "
                    "dimension; every output must have one row a sample"
                )
            # One unbind for all views: its backward stacks their gradients once, where slices would each be padded
            # with zeros and then added.
            return x.unflatten(0, (count, -1)).unbind(0)

        if count == 1:
            return [self]
        parts = tree_map(split, self)
        return [tree_map(lambda _, part, i=i: part[i], self, parts) for i in range(count)]


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply function to corresponding tensors of trees of tuples, lists and dicts; other leaves must be equal."""
    if isinstance(tree, Tensor):
        return function(tree, *rest)
    if isinstance(tree, Mapping):
        for other in rest:
            if not isinstance(other, Mapping) or tree.keys() != other.keys():
                raise ValueError(f"views differ in structure: {sorted(tree)} against {_brief(other)}")
        return {key: tree_map(function, value, *(other[key] for other in rest)) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        for other in rest:
            if not isinstance(other, (tuple, list)) or len(tree) != len(other):
                raise ValueError(f"views differ in structure: {_brief(tree)} against {_brief(other)}")
        values = [tree_map(function, *leaves) for leaves in zip(tree, *rest)]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    for other in rest:
        if other is not tree and tree != other:
            raise ValueError(f"views differ in a value that is not a tensor: {tree!r} against {other!r}")
    return tree


def _brief(tree: Any) -> str:
    return f"{type(tree).__name__} of {len(tree)}" if isinstance(tree, (tuple, list)) else repr(tree)[:80]


def next_example(view: Output) -> Output:
    """Each row replaced by the one after it; lengths are the shorter of the two: both have those frames."""
    rolled = tree_map(lambda x: x.roll(-1, 0), view)
    return rolled._replace(lens={name: torch.minimum(n, view.lens[name]) for name, n in rolled.lens.items()})


def stack_views(views: Sequence[Any]) -> Any:
    """Concatenate views leaf by leaf along the batch dimension: (N, ...) each -> (len(views) * N, ...)."""

    def concatenate(*leaves: Tensor) -> Tensor:
        shapes = {tuple(leaf.shape) for leaf in leaves}
        if len(shapes) > 1:
            raise ValueError(f"the views of a batch must have one shape, found {sorted(shapes)}")
        return torch.cat(leaves)

    return views[0] if len(views) == 1 else tree_map(concatenate, *views)


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
