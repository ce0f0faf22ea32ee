"""Clean and noisy rows of Hugging Face's datasets, which are not imported."""

from __future__ import annotations

from typing import Any, Mapping

from irl.data.pairs import Copies, input_of


class PairedTransform:
    """A transform for `Dataset.with_transform`: rows become {"clean": row, "noisy": [row, ...]}.

        transform = PairedTransform(noise, key="input_values", ids="id")
        loader = DataLoader(dataset.with_transform(transform), batch_size=8,
                            collate_fn=functools.partial(collate_pairs, key="input_values"))
        transform.set_epoch(epoch)
        for clean, [noisy] in loader: ...

    key: the column of inputs: audio, as the data set decodes it or as a list of samples; images as tensors; token ids.
    ids: the column of ids; None: a hash of the input. copies: noisy copies of each row. seed, epoch: as of
    `irl.noise.paired`. In a Trainer set remove_unused_columns=False, and give your own collator to `collate_pairs`.
    """

    def __init__(
        self, noise: Any, key: str, copies: int = 1, ids: str | None = None, seed: int = 0, epoch: int | None = None
    ) -> None:
        self.copies, self.ids = Copies(noise, copies, key, seed, epoch), ids

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch; workers that live on see it too."""
        self.copies.shared.set(epoch)

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Columns of N values -> the columns "clean" and "noisy" of N."""
        rows = [dict(zip(batch, values)) for values in zip(*batch.values())]
        ids = [None if self.ids is None else input_of(row, self.ids) for row in rows]
        pairs = [self.copies.row(row, example) for row, example in zip(rows, ids)]
        return {"clean": [clean for clean, _ in pairs], "noisy": [noisy for _, noisy in pairs]}
