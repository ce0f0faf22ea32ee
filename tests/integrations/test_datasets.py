"""With a stand-in that calls a transform as Hugging Face's datasets do: columns of lists in, columns of lists out."""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from irl.integrations.datasets import PairedTransform
from irl.noise import collate_pairs, volume


class Table:
    def __init__(self, columns, transform=None):
        self.columns, self.transform = columns, transform

    def with_transform(self, transform):
        return Table(copy.deepcopy(self.columns), transform)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitems__(self, rows):
        found = self.transform({name: [values[i] for i in rows] for name, values in self.columns.items()})
        return [dict(zip(found, values)) for values in zip(*found.values())]

    def __getitem__(self, i):
        return self.__getitems__([i])[0]


rng = np.random.default_rng(0)
SAMPLES = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in (40, 30, 20)]
AUDIO = [{"array": x, "sampling_rate": 16000, "path": "x"} for x in SAMPLES]
TABLE = Table({"id": ["a", "b", "c"], "audio": AUDIO, "values": [x.tolist() for x in SAMPLES], "label": [0, 1, 1]})


@pytest.mark.parametrize("key", ["audio", "values"])
def test_rows_and_batches(key):
    noise = volume(0.2, 3.0)
    transform = PairedTransform(noise, key, copies=2, ids="id")
    table = TABLE.with_transform(transform)
    row = table[1]
    assert row["clean"]["label"] == 1 and len(row["noisy"]) == 2 and row["noisy"][0]["id"] == "b"
    loader = DataLoader(
        table, 3, collate_fn=functools.partial(collate_pairs, key=key), num_workers=1, persistent_workers=True
    )
    for epoch in (0, 4):
        transform.set_epoch(epoch)
        ((clean, noisy),) = loader
        assert clean[f"{key}_lens"].tolist() == [40, 30, 20] and clean["label"].tolist() == [0, 1, 1]
        for number, view in enumerate(noisy, 1):
            for i, (x, name) in enumerate(zip(SAMPLES, "abc")):
                expected = noise(x, ids=name, epoch=epoch, copy=number)
                np.testing.assert_allclose(view[key][i, : len(x)], expected, atol=1e-6)
                np.testing.assert_allclose(clean[key][i, : len(x)], x, atol=1e-6)


class Decoder:
    """As torchcodec's."""

    def get_all_samples(self):
        return SimpleNamespace(data=torch.from_numpy(np.stack([SAMPLES[0], -0.5 * SAMPLES[0]])), sample_rate=16000)


def test_audio_that_torchcodec_decodes():
    noise = volume(0.2, 3.0)
    (row,) = PairedTransform(noise, "audio")({"audio": [Decoder()]})["noisy"]
    clean, (noisy,) = collate_pairs([PairedTransform(noise, "audio").copies.row({"audio": Decoder()}, 3)], key="audio")
    assert torch.equal(row[0]["audio"]["array"], noise(torch.from_numpy(0.25 * SAMPLES[0])))
    assert torch.equal(noisy["audio"][0], noise(clean["audio"][0], ids=3))


def test_without_ids_and_with_wrong_columns():
    noise = volume(0.2, 3.0)
    (noisy,) = PairedTransform(noise, "audio")({"audio": AUDIO[:1]})["noisy"][0]
    assert np.array_equal(noisy["audio"]["array"], noise(SAMPLES[0]))
    with pytest.raises(ValueError, match="key: no 'wave' in an item of the data set, which has the keys audio"):
        PairedTransform(noise, "wave")({"audio": AUDIO[:1]})
    assert torch.is_tensor(collate_pairs([{"clean": AUDIO[0] | {"n": 1}, "noisy": []}], key="array")[0]["array"])
