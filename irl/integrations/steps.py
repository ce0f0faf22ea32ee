"""The training step of somebody else's loop as a model that the IRL loss can run: one pass a view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

from torch import Tensor, nn

from irl.core.output import Output
from irl.data.pairs import Copies, Key, is_pair
from irl.models.tap import tap
from irl.objective import IRLLoss, Terms


class _Step(nn.Module):
    """forward(batch) is the step; its layers are called as the model's own."""

    def __init__(self, model: nn.Module, step: Callable[[Any], Any]) -> None:
        super().__init__()
        self.step, self._modules = step, model._modules

    def forward(self, batch: Any) -> Any:
        return self.step(batch)


class IRLSteps:
    """The IRL loss of steps that compute their own loss.

    layers: names as in model.named_modules(). irl_loss: always runs with passes="separate", because a step gives one
    loss for its whole batch; so batch norm sees each view alone. lens(batch, output), select, time_dim, ...: those of
    `irl.tap`, of the step's batch and of what the step returned.
    noise, key, copies, seed: where batches come without noisy copies, a noise of `irl.noise` for input `key` of the
    batch, the first of a tuple; draws are by a hash of the whole batch. Padded inputs need `irl.noise.paired` instead.
    """

    def __init__(
        self,
        layers: Sequence[str],
        irl_loss: IRLLoss | None = None,
        noise: Any = None,
        key: Key = None,
        copies: int = 1,
        seed: int = 0,
        lens: Callable[[Any, Any], Tensor | Mapping[str, Tensor]] | None = None,
        **settings: Any,
    ) -> None:
        self.irl_loss = replace(irl_loss or IRLLoss(), passes="separate")
        for name in {"loss", "logits"} & set(self.irl_loss.layers or ()) - set(layers):
            raise ValueError(
                f"layer {name!r} of a step is the loss that it returns: name the module that computes the output, as "
                "in model.named_modules(), in layers"
            )
        self.copies = None if noise is None else Copies(noise, copies, key, seed, None)
        self.layers, self.settings = layers, settings
        self.settings["lens"] = lens and (lambda inputs, output: lens(inputs[0], output[1]))
        self.tapped: Any = None

    def attach(self, model: nn.Module, step: Callable[[Any], Any]) -> None:
        """step(batch) -> (loss, whatever else it returns) calls the model. Raises ValueError for unknown layers."""
        self.detach()
        self.tapped = tap(_Step(model, step), self.layers, **self.settings)

    def detach(self) -> None:
        """Leaves no hook behind."""
        if self.tapped is not None:
            self.tapped.remove()
            self.tapped = None

    def pair(self, batch: Any, epoch: int) -> tuple[Any, Sequence[Any]]:
        """(clean, noisy copies) of a batch, with the noise of this epoch if it comes without."""
        if self.copies is not None:
            self.copies.shared.set(epoch)
            return self.copies.row(batch, None)
        if is_pair(batch):
            return batch[0], batch[1]
        raise ValueError(
            f"expected a batch (clean, [noisy, ...]), found {type(batch).__name__}: make it by "
            "irl.noise.paired(dataset, noise) and its collate, or give noise="
        )

    def __call__(self, batch: Any, epoch: int, step: int) -> tuple[Terms, list[Any]]:
        """The terms of a batch, and what the step returned beside its loss, for each view that was run."""
        clean, noisy = self.pair(batch, epoch)
        returned: list[Any] = []

        def run(view: Any) -> Output:
            output = self.tapped(view)
            loss, other = output.logits
            returned.append(other)
            return Output(other, output.hidden, output.lens, {"loss": loss})

        # In a tuple of one, so that the step gets the batch as it is.
        views = [(clean,), *((copy,) for copy in noisy)]
        return (
            self.irl_loss(run, views[0], views[1:], lambda view: view.extra["loss"], step=step),
            returned,
        )


def scalars(terms: Terms, irl_loss: IRLLoss) -> dict[str, Tensor | float]:
    """The terms by the names of logs, without gradient: "irl/total", "irl/gamma", and those that were computed of
    "irl/clean", "irl/noisy", "irl/dist" and "irl/dist/LAYER"."""
    named = {"total": terms.total}
    named |= {"clean": terms.clean} if irl_loss.alpha > 0 else {}
    named |= {"noisy": terms.noisy} if irl_loss.beta > 0 else {}
    # Where a pass skipped every layer, there is no distance.
    named |= {"dist": terms.dist} if terms.per_layer else {}
    named |= {f"dist/{layer}": value for layer, value in terms.per_layer.items()}
    return {"irl/gamma": terms.gamma, **{f"irl/{name}": value.detach() for name, value in named.items()}}
