import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.core.errors import UserError
from irl.core.rng import Keys, hash_ids
from irl.noise.audio import SNRS, Additive, OneOf, OverlappedSpeech, Reverberation, add_at_snr
from irl.noise.bank import ROOMS, Bank, RIRBank
from irl.noise.channel import Volume
from irl.noise.convolution import reverberate, spectrum
from irl.speech.conditions import KINDS, NoiseConfig, build, condition

RATE = 16000


def speech(*lengths):
    waves = [0.1 * np.random.randn(n).astype(np.float32) for n in lengths]
    x = torch.zeros(len(lengths), max(lengths))
    for row, wave in zip(x, waves):
        row[: len(wave)] = torch.from_numpy(wave)
    return x, torch.tensor(lengths)


def keys(n, **address):
    return Keys(hash_ids([f"utt{i}" for i in range(n)]), **{"seed": 1, "stream": "noise", **address})


def banks(folder, *categories):
    """One bank for everything; its noises and rooms are read as any folders, too."""
    return NoiseConfig(
        musan=str(folder), rirs=str(folder), categories=categories or ("noise", "music"),
        noises=str(folder / "noise"), rooms=str(folder / "simulated_rirs"),
    )  # fmt: skip


@pytest.fixture(params=KINDS)
def noise(request, bank_dir):
    return build(request.param, RATE, banks(bank_dir, "noise", "music", "babble"))


def test_laws_of_every_noise(noise):
    x, lens = speech(16000, 9000, 3000, 12345)
    before = x.clone()
    y = noise.apply(x, lens, noise.draw(keys(4), lens))
    assert torch.equal(x, before), "the input is never written"
    assert y.shape == x.shape and y.dtype == x.dtype and torch.isfinite(y).all()
    assert y.data_ptr() != x.data_ptr() and not torch.equal(y, x)
    assert y[torch.arange(16000) >= lens[:, None]].abs().max() == 0, "padding stays padding"
    # The same address gives the same noisy copy, whatever else is in the batch.
    again = noise.apply(x, lens, noise.draw(keys(4), lens))
    assert torch.equal(y, again)
    for i, n in enumerate(lens.tolist()):
        one = Keys(keys(4).ids[i : i + 1], 1, "noise")
        alone = noise.apply(x[i : i + 1, :n], lens[i : i + 1], noise.draw(one, lens[i : i + 1]))
        assert torch.equal(alone[0], y[i, :n])


@pytest.mark.parametrize(
    "name, expected", [("gain-20", -44.0), ("gain+10", -14.0), ("dbfs-50", -50.0), ("dbfs-5", -5.0)]
)
def test_levels(name, expected):
    """RMS in dBFS of a row that lies at -24; padding has no part in it, nothing clips."""
    x, lens = speech(16000, 9000)
    x *= 10 ** (-24 / 20) / (x.square().sum(1, keepdim=True) / lens[:, None]).sqrt()
    noise = build(condition(name), RATE)
    y = noise.apply(x, lens, noise.draw(keys(2), lens))
    torch.testing.assert_close(10 * torch.log10(y.square().sum(1) / lens), torch.full((2,), expected), atol=0.1, rtol=0)
    assert torch.equal(noise.apply(0 * x, lens, noise.draw(keys(2), lens)), 0 * x)


def test_an_unknown_condition():
    with pytest.raises(UserError, match="unknown condition 'gain', known are additive"):
        condition("gain")


def test_other_epochs_and_copies_draw_anew(bank_dir):
    noise = build("additive", RATE, banks(bank_dir))
    x, lens = speech(8000, 8000)
    copies = [
        noise.apply(x, lens, noise.draw(keys(2, **a), lens)) for a in ({}, {"epoch": 1}, {"copy": 1}, {"seed": 2})
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(copies) for b in copies[:i])


def test_silence_survives(noise):
    x, lens = torch.zeros(2, 5000), torch.tensor([5000, 4000])
    y = noise.apply(x, lens, noise.draw(keys(2), lens))
    # A codec's idle pattern and its rounding are all that may remain.
    assert y.abs().max() < 0.01


@given(st.floats(-10, 30), st.integers(1, 3000), st.integers(0, 10**6))
def test_realised_snr(snr, n, seed):
    rng = np.random.default_rng(seed)
    x, noise = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    added = add_at_snr(x, noise, snr).astype(np.float64) - x
    assert 10 * np.log10(np.mean(x.astype(float) ** 2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)


def test_additive_draws_kaldis_categories_and_snrs(bank_dir):
    noise = Additive(Bank(bank_dir, RATE, ["noise", "music", "speech"]), ("noise", "music", "babble"))
    n = 3000
    lens = torch.full((n,), 100)
    params = noise.draw(keys(n), lens)
    talkers = (params.clips >= 0).sum(1)
    for category, name in (("noise", "noise"), ("music", "music"), ("speech", "babble")):
        rows = torch.tensor([c == category for c in params.category])
        assert abs(rows.float().mean() - 1 / 3) < 0.03
        assert set(params.snr[rows].tolist()) == set(SNRS[name])
        wanted = range(3, 8) if name == "babble" else [1]
        assert set(talkers[rows].tolist()) == set(wanted)
    for row in params.clips[talkers > 1][:200]:
        chosen = row[row >= 0].tolist()
        assert len(set(chosen)) == len(chosen), "babble has different talkers"


def test_realised_snr_of_a_batch(bank_dir):
    noise = build("additive", RATE, banks(bank_dir, "noise", "music", "babble"))
    x, lens = speech(*[4000 + 100 * i for i in range(20)])
    params = noise.draw(keys(20), lens)
    y = noise.apply(x, lens, params)
    for i, n in enumerate(lens.tolist()):
        added = (y[i, :n].double() - x[i, :n]).square().mean()
        assert 10 * torch.log10(x[i, :n].double().square().mean() / added) == pytest.approx(
            float(params.snr[i]), abs=0.01
        )


def test_a_clip_shorter_than_the_utterance_is_repeated(bank_dir):
    bank = Bank(bank_dir, RATE, ["noise"])
    clip = next(c for c in bank.clips["noise"] if c.frames == 500)
    segment = bank.segment(clip, 480, 1200)
    whole = bank.segment(clip, 0, 500)
    assert len(segment) == 1200 and np.array_equal(segment[:20], whole[480:]) and np.array_equal(segment[20:520], whole)


def test_stereo_and_other_rates(bank_dir):
    bank = Bank(bank_dir, RATE, ["noise", "music"])
    frames = {c.path.name: c.frames for clips in bank.clips.values() for c in clips}
    assert frames == {"noise-0.wav": 40000, "noise-1.wav": 30000, "noise-2.wav": 500, "music-0.wav": 40000}
    music = bank.segment(bank.clips["music"][0], 0, 40000)
    assert music.shape == (40000,) and abs(music.std() - 0.1 * 2**-0.5 * 2**0.5) < 0.02


def test_segments_from_disk_equal_those_in_memory(bank_dir, monkeypatch):
    whole = Bank(bank_dir, RATE, ["noise", "music"])
    monkeypatch.setattr("irl.noise.bank.CACHE_SAMPLES", 0)
    streamed = Bank(bank_dir, RATE, ["noise", "music"])
    for category in ("noise", "music"):
        for a, b in zip(whole.clips[category], streamed.clips[category]):
            for offset, length in ((0, 100), (137, 300), (400, 3000)):
                np.testing.assert_array_equal(whole.segment(a, offset, length), streamed.segment(b, offset, length))


def test_parts_of_a_bank_share_no_clip(bank_dir):
    import soundfile

    for i in range(60):
        soundfile.write(bank_dir / "music" / f"more-{i}.wav", np.ones(100), RATE)
    parts = [
        {c.path for c in Bank(bank_dir, RATE, ["music"], part).clips["music"]} for part in ("train", "dev", "test")
    ]
    assert sum(map(len, parts)) == 61 and len(set.union(*parts)) == 61 and len(parts[0]) > len(parts[1]) > 0


def test_overlapped_speech_is_by_somebody_else(bank_dir):
    noise = OverlappedSpeech(Bank(bank_dir, RATE, ["speech"]))
    n = 300
    speakers = [f"spk{i % 3}" for i in range(n)]
    params = noise.draw(keys(n), torch.full((n,), 100), speakers)
    talkers = [noise.bank.clips["speech"][int(c)].speaker for c in params.clips[:, 0]]
    assert all(a != b for a, b in zip(speakers, talkers)) and len(set(talkers)) == 3
    counts = [sum(a == x and b == y for a, b in zip(speakers, talkers)) for x in set(talkers) for y in set(talkers)]
    assert min(c for c in counts if c) > 30, "no talker is favoured"
    noise.bank.clips["speech"] = noise.bank.clips["speech"][:1]
    with pytest.raises(UserError, match="nobody but spk0 speaks there"):
        noise.draw(keys(1), torch.tensor([100]), ["spk0"])


@given(st.integers(1, 5000), st.integers(1, 900), st.integers(0, 10**6))
def test_reverberation_equals_direct_convolution(n, length, seed):
    rng = np.random.default_rng(seed)
    x, rir = rng.normal(size=n).astype(np.float32), rng.normal(size=length)
    full = np.convolve(x.astype(float), rir)[np.abs(rir).argmax() :][:n]
    expected = full * np.sqrt(np.mean(x.astype(float) ** 2) / np.mean(full**2))
    np.testing.assert_allclose(reverberate(x, spectrum(rir)), expected, atol=2e-4 * np.abs(expected).max())


def test_reverberation_keeps_level_and_alignment(bank_dir):
    noise = Reverberation(RIRBank(bank_dir, RATE))
    x, lens = speech(8000, 8000, 5000)
    y = noise.apply(x, lens, noise.draw(keys(3), lens))
    for a, b, n in zip(x, y, lens.tolist()):
        assert float(b.norm() / a.norm()) == pytest.approx(1, abs=1e-3)
        # The direct sound stays where it was: correlation is largest at lag 0.
        lags = [float(a[50 : n - 50] @ b[50 + k : n - 50 + k]) for k in range(-40, 41)]
        assert int(np.argmax(lags)) == 40


def test_one_of_gives_each_row_the_noise_it_would_get_alone(bank_dir):
    noise = OneOf((Volume(2, 2), Volume(0.5, 0.5), build("additive", RATE, banks(bank_dir))))
    x, lens = speech(*[2000] * 40)
    y = noise.apply(x, lens, noise.draw(keys(40), lens))
    gains = (y.norm(dim=1) / x.norm(dim=1)).round(decimals=3).tolist()
    assert 5 < gains.count(2.0) < 25 and 5 < gains.count(0.5) < 25
    half = keys(40).ids[20:]
    again = noise.apply(x[20:], lens[20:], noise.draw(Keys(half, 1, "noise"), lens[20:]))
    assert torch.equal(again, y[20:])


def test_bad_banks_are_refused_by_name(bank_dir, tmp_path):
    import soundfile

    with pytest.raises(UserError, match="nowhere/noise: no audio found .*MUSAN's layout"):
        Bank(tmp_path / "nowhere", RATE, ["noise"])
    with pytest.raises(UserError, match="smallroom: no impulse response found"):
        RIRBank(tmp_path / "nowhere", RATE, sizes=ROOMS)
    (bank_dir / "noise" / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="broken.wav: cannot be read"):
        Bank(bank_dir, RATE, ["noise"])
    (bank_dir / "noise" / "broken.wav").unlink()
    soundfile.write(bank_dir / "noise" / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(UserError, match="empty.wav: holds no samples"):
        Bank(bank_dir, RATE, ["noise"])
    soundfile.write(bank_dir / "music" / "nan.wav", np.full(10, np.nan), RATE, subtype="FLOAT")
    bank = Bank(bank_dir, RATE, ["music"])
    with pytest.raises(UserError, match="nan.wav: holds samples that are not finite"):
        bank.segment(next(c for c in bank.clips["music"] if c.path.name == "nan.wav"), 0, 5)
    soundfile.write(bank_dir / "simulated_rirs" / "smallroom" / "zero.wav", np.zeros(10), RATE)
    rirs = RIRBank(bank_dir, RATE)
    with pytest.raises(UserError, match="zero.wav: the impulse response is empty or all zeros"):
        rirs.get(bank_dir / "simulated_rirs" / "smallroom" / "zero.wav")


@pytest.mark.parametrize(
    "settings",
    [
        {"kinds": ()},
        {"kinds": ("hum",)},
        {"kinds": ("specaugment", "rir")},
        {"categories": ("birds",)},
        {"part": "half"},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="expected|cannot be combined"):
        NoiseConfig(**settings)
