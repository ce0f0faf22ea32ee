"""Pairs of anyone's data set."""

import logging
import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from irl.noise import collate_pairs, image_noise, paired, volume, word_noise

LENGTHS = [50, 30, 40, 20]
torch.manual_seed(0)
WAVES = [0.1 * torch.randn(n) for n in LENGTHS]
NOISE = volume(0.2, 3.0)


class Items(Dataset):
    """Any items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def expected(i, epoch=0, copy=1):
    return NOISE(WAVES[i], ids=i, epoch=epoch, copy=copy)


def test_audio_with_labels():
    pairs = paired(Items([(wave, i % 2) for i, wave in enumerate(WAVES)]), NOISE, copies=2)
    (clean, label), noisy = pairs[1]
    assert torch.equal(clean, WAVES[1]) and label == 1 and len(noisy) == 2
    (x, lens, y), views = next(iter(DataLoader(pairs, batch_size=4, collate_fn=pairs.collate)))
    assert lens.tolist() == LENGTHS and y.tolist() == [0, 1, 0, 1] and x.shape == (4, 50)
    for copy, (noisy, noisy_lens, noisy_y) in enumerate(views, 1):
        assert torch.equal(noisy_lens, lens) and torch.equal(noisy_y, y)
        for i, n in enumerate(LENGTHS):
            assert torch.equal(x[i, :n], WAVES[i]) and torch.equal(noisy[i, :n], expected(i, copy=copy))
            assert not noisy[i, n:].any()


@pytest.mark.parametrize(
    "row, found",
    [
        ({"x": 1, "labels": 2}, "the keys x, labels"),
        ((WAVES[0], 3), "tuple of Tensor, int"),
        ((WAVES[0], [1, 2]), "tuple of Tensor, list"),
        ({"clean": 1, "noisy": WAVES[0]}, "the keys clean, noisy"),
        (WAVES[0], "Tensor"),
    ],
)
def test_rows_that_are_no_pairs_are_refused(row, found):
    """As those of a data set that was not given to `paired`."""
    with pytest.raises(
        ValueError, match=rf"expected rows \(clean, .*, found {found}: wrap the data set, .* irl.noise.paired"
    ):
        collate_pairs([row, row])


def test_images_tokens_and_mappings():
    images = torch.rand(4, 3, 5, 5)
    noise = image_noise(0.5, scale=1)
    pairs = paired(Items(list(images)), noise)
    clean, (noisy,) = pairs.collate([pairs[i] for i in range(4)])
    assert torch.equal(clean, images) and torch.equal(noisy, noise(images, ids=range(4)))
    tokens = [{"input_ids": list(range(5, 9 + i)), "name": f"n{i}", "score": float(i)} for i in range(4)]
    noise = word_noise(0.5, mask_id=1)
    pairs = paired(Items(tokens), noise, key="input_ids", ids="name", pad=9)
    clean, (noisy,) = pairs.collate([pairs[i] for i in range(4)])
    assert clean["input_ids"].tolist()[0] == [5, 6, 7, 8, 9, 9, 9] and clean["name"] == ["n0", "n1", "n2", "n3"]
    assert clean["input_ids_lens"].tolist() == [4, 5, 6, 7] == noisy["input_ids_lens"].tolist()
    assert torch.equal(noisy["score"], torch.arange(4.0, dtype=torch.float64))
    for i, item in enumerate(tokens):
        own = noise(item["input_ids"], ids=f"n{i}")
        assert noisy["input_ids"][i, : len(own)].tolist() == own.tolist()


def test_other_kinds_of_items():
    Item = namedtuple("Item", "label wave")
    pairs = paired(Items([Item(3, w) for w in WAVES]), NOISE, key=1)
    clean, (noisy,) = pairs[0]
    assert isinstance(noisy, Item) and noisy.label == 3 and torch.equal(noisy.wave, expected(0))
    # torchaudio's data sets: (1, T), the rate, texts of several lengths.
    rows = [(w[None], 16000, f"text {i}", torch.arange(i)) for i, w in enumerate(WAVES)]
    pairs = paired(Items(rows), NOISE)
    (x, lens, rate, texts, labels), [(noisy, *_)] = pairs.collate([pairs[i] for i in range(4)])
    assert x.shape == (4, 1, 50) and lens.tolist() == LENGTHS and texts[1] == "text 1" and len(labels[3]) == 3
    assert torch.equal(noisy[1, 0, :30], expected(1))
    audio = [{"audio": {"array": w.numpy(), "sampling_rate": 16000, "path": "a"}} for w in WAVES]
    pairs = paired(Items(audio), NOISE, key="audio")
    clean, (noisy,) = pairs.collate([pairs[i] for i in range(4)])
    assert torch.equal(noisy["audio"][2, :40], expected(2)) and clean["audio_lens"].tolist() == LENGTHS


def test_an_iterable_data_set():
    stream = Stream([{"id": f"u{i}", "wave": w} for i, w in enumerate(WAVES)])
    rows = list(paired(stream, NOISE, key="wave", ids="id"))
    assert torch.equal(rows[2][1][0]["wave"], NOISE(WAVES[2], ids="u2"))
    bare = paired(Stream(WAVES), NOISE)
    loader = DataLoader(bare, batch_size=2, collate_fn=bare.collate)
    (x, lens), [(noisy, _)] = next(iter(loader))
    assert torch.equal(noisy[1, :30], NOISE(WAVES[1])) and lens.tolist() == [50, 30]


def test_own_ids_seeds_and_collate_functions():
    names = ["a", "b", "c", "d"]
    pairs = paired(Items(WAVES), NOISE, ids=names, seed=3, epoch=5, collate=len)
    assert torch.equal(pairs[2][1][0], NOISE(WAVES[2], ids="c", seed=3, epoch=5))
    assert pairs.collate([pairs[0], pairs[1]]) == (2, [2])
    rows = [{"clean": 1, "noisy": [2, 3]}, {"clean": 4, "noisy": [5, 6]}]
    assert collate_pairs(rows, list) == ([1, 4], [[2, 5], [3, 6]])


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_live_on_see_new_draws_each_epoch(context):
    pairs = paired(Items(WAVES), NOISE)
    loader = DataLoader(
        pairs, 4, collate_fn=pairs.collate, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    seen = []
    for epoch in (0, 1, 7):
        pairs.set_epoch(epoch)
        for _, [(noisy, _)] in loader:
            seen.append(noisy)
            assert all(torch.equal(noisy[i, :n], expected(i, epoch)) for i, n in enumerate(LENGTHS))
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_a_forgotten_set_epoch_is_said_once(caplog):
    pairs = paired(Items(WAVES), NOISE)
    with caplog.at_level(logging.WARNING, "irl"):
        first = [pairs[i] for i in range(4)]
        assert not caplog.records
        again = [pairs[i] for i in range(4)]
        assert torch.equal(first[0][1][0], again[0][1][0])
        (record,) = caplog.records
        assert "item 0 is drawn again in epoch 0" in record.message and "set_epoch" in record.message
        fixed = paired(Items(WAVES), NOISE, epoch=0)
        assert torch.equal(fixed[0][1][0], fixed[0][1][0]) and len(caplog.records) == 1
    assert torch.equal(pickle.loads(pickle.dumps(pairs))[3][1][0], expected(3))


def test_bad_arguments_are_refused():
    for make, message in (
        (lambda: paired(Items(WAVES), 3), "noise: expected a noise of irl.noise, found 3"),
        (lambda: paired(Items(WAVES), NOISE, 0), "copies: expected a whole number from 1 on"),
        (lambda: paired(Items(WAVES), NOISE, ids=["a"]), "ids: expected 4, one for each item, found 1"),
        (lambda: paired(Stream(WAVES), NOISE, ids=["a"]), "ids: of an iterable data set expected the name"),
        (lambda: paired(Items(WAVES), NOISE, epoch=-1), "epoch: expected a whole number"),
        (lambda: paired(Items([{"a": 1, "b": 2}]), NOISE)[0], "key: name the input among a, b"),
        (lambda: paired(Items([{"a": 1}]), NOISE, key="x")[0], "key: no 'x' in an item of the data set, .* keys a"),
        (lambda: paired(Items([(1, 2)]), NOISE, key=2)[0], "key: no 2 in an item of the data set, which has tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    noise = volume(2, 3)
    noise.rate = 8000
    item = {"audio": {"array": np.zeros(9, np.float32), "sampling_rate": 16000}}
    with pytest.raises(ValueError, match="example 0: 16000 Hz, but the noise is for 8000 Hz"):
        paired(Items([item]), noise, key="audio")[0]
