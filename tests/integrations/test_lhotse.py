"""With stand-ins that have the methods of lhotse's cuts and extractors that are used."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from irl.integrations.lhotse import PairedCuts
from irl.noise import telephone, volume

RATE = 8000


class Cut:
    def __init__(self, name, seconds, parts):
        self.id, self.duration, self.sampling_rate = name, seconds, RATE
        self.supervisions = [SimpleNamespace(text=t, start=s, duration=d) for t, s, d in parts]
        rng = np.random.default_rng(int(seconds * 100))
        self.samples = 0.1 * rng.normal(size=(1, round(seconds * RATE))).astype(np.float32)

    def load_audio(self):
        return self.samples


class Energies:
    frame_shift = 0.01

    def extract(self, samples, sampling_rate):
        assert samples.ndim == 1 and sampling_rate == RATE
        return (samples[: len(samples) // 80 * 80].reshape(-1, 80) ** 2).mean(1, keepdims=True)


CUTS = [Cut("b", 0.5, [("yes", 0.0, 0.5)]), Cut("a", 0.8, [("one", 0.0, 0.3), ("two", 0.25, 0.6)])]


def test_audio_and_its_noisy_copies():
    noise = volume(0.2, 3.0)
    clean, noisy = PairedCuts(noise, copies=2, return_cuts=True)[CUTS]
    longer, shorter = (torch.from_numpy(cut.samples[0]) for cut in (CUTS[1], CUTS[0]))
    assert torch.equal(clean["inputs"][0], longer) and torch.equal(clean["inputs"][1, :4000], shorter)
    for copy, view in enumerate(noisy, 1):
        assert torch.equal(view["inputs"], noise(clean["inputs"], [6400, 4000], ["a", "b"], copy=copy))
        assert view["supervisions"] is clean["supervisions"]
    found = clean["supervisions"]
    assert found["text"] == ["one", "two", "yes"] and found["sequence_idx"].tolist() == [0, 0, 1]
    assert found["start_sample"].tolist() == [0, 2000, 0] and found["num_samples"].tolist() == [2400, 4400, 4000]
    assert [cut.id for cut in found["cut"]] == ["a", "a", "b"]


def test_features_and_epochs_through_a_loader_of_batches():
    pairs = PairedCuts(volume(0.2, 3.0), features=Energies())
    loader = DataLoader(pairs, sampler=[CUTS, CUTS[:1]], batch_size=None, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (0, 1):
        pairs.set_epoch(epoch)
        batches = list(loader)
        clean, (noisy,) = batches[0]
        assert clean["inputs"].shape == (2, 80, 1) and len(batches) == 2
        # A volume changes energies by one factor; in another batch a cut has the same noise.
        ratio = (noisy["inputs"] / clean["inputs"])[1, :50]
        assert ratio.std() < 0.02 * ratio.mean()
        assert torch.equal(batches[1][1][0]["inputs"][0], noisy["inputs"][1, :50])
        assert clean["supervisions"]["num_frames"].tolist() == [30, 55, 50]
        seen.append(noisy["inputs"])
    assert not torch.equal(*seen)


def test_bad_cuts_are_refused():
    with pytest.raises(ValueError, match="cut b: 8000 Hz, but the noise is for 16000 Hz"):
        PairedCuts(telephone(16000))[CUTS[:1]]
    stereo = Cut("s", 0.1, [])
    stereo.samples = np.zeros((2, 800))
    with pytest.raises(ValueError, match=r"cut s: expected one channel, samples \(1, T\), found \[2, 800\]"):
        PairedCuts(volume())[[stereo]]
    with pytest.raises(ValueError, match="copies: expected a whole number"):
        PairedCuts(volume(), copies=0)
