import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irl.data.features import FeatureConfig, KaldiFbank, LogMel, mel_filters, pad_waves

NORMALISE = ["global", "utterance", "mean", "level"]


@pytest.mark.parametrize("rate, mels", [(16000, 80), (8000, 40)])
def test_log_mel_equals_torchaudio(rate, mels):
    torchaudio = pytest.importorskip("torchaudio")
    config = FeatureConfig(rate=rate, mels=mels)
    wave = torch.randn(rate) * 0.1
    theirs = torchaudio.transforms.MelSpectrogram(
        rate, n_fft=LogMel(config).fft_size, win_length=config.window, hop_length=config.hop, center=False,
        f_min=20.0, n_mels=mels, power=2.0, mel_scale="htk",
    )  # fmt: skip
    # torch.stft centres a short window in its frame; ours begins with it.
    shift = (LogMel(config).fft_size - config.window) // 2
    padded = torch.nn.functional.pad(wave, (shift, LogMel(config).fft_size))
    expected = torch.log(theirs(padded).clamp(min=1e-10)).T
    got = LogMel(config)(wave)
    assert got.shape == (config.frames(rate), mels)
    torch.testing.assert_close(got, expected[: len(got)], rtol=1e-3, atol=1e-3)


def test_volume_shifts_raw_features_and_vanishes_under_utterance_normalisation():
    wave = torch.randn(16000) * 0.1
    raw, own = (LogMel(FeatureConfig(normalise=n)) for n in ("global", "utterance"))
    assert float((raw(2 * wave) - raw(wave)).mean()) == pytest.approx(2 * np.log(2), abs=1e-3)
    assert (own(2 * wave) - own(wave)).abs().max() < 1e-3


def kaldis_fbank(x, rate, mels):
    """Written after Kaldi's feature-window.cc and mel-computations.cc: default options, dither 0."""
    window, hop = int(rate * 0.001 * 25), int(rate * 0.001 * 10)
    fft = 1 << (window - 1).bit_length()
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    points = np.linspace(mel(20), mel(rate / 2), mels + 2)[:, None]
    f = mel(np.arange(fft // 2) * rate / fft)
    rise, fall = (f - points[:-2]) / np.diff(points[:-1], axis=0), (points[2:] - f) / np.diff(points[1:], axis=0)
    filters = np.minimum(rise, fall).clip(min=0)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
    rows = []
    for i in range(1 + (len(x) - window) // hop):
        frame = 32768 * x[i * hop : i * hop + window].astype(np.float64)
        frame -= frame.mean()
        frame -= 0.97 * np.concatenate([frame[:1], frame[:-1]])
        rows.append(filters @ np.abs(np.fft.rfft(frame * povey, fft)[:-1]) ** 2)
    return np.log(np.maximum(rows, np.finfo(np.float32).eps))


@pytest.mark.parametrize("kind", ["log_mel", "kaldi_fbank"])
@pytest.mark.parametrize("warp", [0.8, 0.9, 1.1, 1.25])
def test_a_warp_hears_a_longer_vocal_tract_as_the_shorter_one(kind, warp):
    """A spectrum lowered by a factor, heard with filters warped by it, against the spectrum itself: VTLN's purpose."""
    features = FeatureConfig(rate=16000, mels=40, kind=kind, normalise="level").build()
    t = torch.arange(16000) / 16000

    def vowel(scale):
        # Many partials, so that no filter is empty; their envelope and nothing else moves.
        f = torch.arange(60, 7000, 20.0)
        envelope = sum(torch.exp(-(((f * scale - formant) / (0.2 * formant)) ** 2)) for formant in (500, 1400, 2500))
        phases = 2 * torch.pi * torch.rand(len(f), generator=torch.Generator().manual_seed(0))
        return 0.02 * (envelope[:, None] * torch.sin(2 * torch.pi * f[:, None] * t + phases[:, None])).sum(0)

    one, longer = vowel(1.0), vowel(warp)
    bands = slice(8, 28)  # some 400 to 3,000 Hz
    mean = lambda x: x.mean(0)[bands] - x.mean(0)[bands].mean()  # noqa: E731
    plain, heard, unwarped = mean(features(one)), mean(features(longer, warp)), mean(features(longer))
    assert (heard - plain).abs().mean() < 0.25 * (unwarped - plain).abs().mean()


@pytest.mark.parametrize("warp", [0.85, 1.2])
def test_warped_filters_move_every_corner_as_kaldis_vtln(warp):
    """Against VtlnWarpFreq of Kaldi's mel-computations.cc, written out: corners up to 3500 Hz, ends fixed."""
    config = FeatureConfig(rate=8000, mels=23)
    low, high, top = 100 * max(1.0, warp), 3500 * min(1.0, warp), 4000
    moved = lambda f: np.interp(f, [20, low, high, top], [20, low / warp, high / warp, top])  # noqa: E731
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    corners = moved(700 * (10 ** (np.linspace(mel(20), mel(top), 25) / 2595) - 1))
    bins = np.arange(129) * 8000 / 256
    expected = np.stack([np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(23)], 1)
    np.testing.assert_allclose(mel_filters(config, warp).numpy(), expected, atol=1e-6)


def test_a_batch_with_warps_is_each_wave_with_its_own():
    features = FeatureConfig(rate=8000, mels=40, stack=3).build()
    waves, lens = pad_waves(
        [0.1 * np.random.default_rng(i).standard_normal(4000 + 900 * i, np.float32) for i in range(3)]
    )
    x, x_lens = features.batch(waves, lens, [1.0, 0.9, 1.1])
    for row, n, wave, samples, warp in zip(x, x_lens, waves, lens, [1.0, 0.9, 1.1]):
        assert torch.equal(row[:n], features(wave[:samples], warp))
    assert torch.equal(x[0], features.batch(waves, lens)[0][0]) and not torch.equal(
        x[1], features.batch(waves, lens)[0][1]
    )


@pytest.mark.parametrize("rate, mels", [(16000, 80), (8000, 23), (11025, 40)])
def test_kaldi_fbank_is_kaldis(rate, mels):
    config = FeatureConfig(rate=rate, mels=mels, kind="kaldi_fbank")
    wave = 0.1 * torch.randn(rate + 77) + 0.05
    expected = kaldis_fbank(wave.numpy(), rate, mels)
    got = config.build()(wave)
    assert isinstance(config.build(), KaldiFbank) and got.shape == (config.frames(len(wave)), mels)
    np.testing.assert_allclose(got, expected, atol=5e-3)


def test_kaldi_fbank_floors_silence_at_the_epsilon_of_floats():
    """Also a constant, as every frame's mean is removed."""
    extract = FeatureConfig(kind="kaldi_fbank").build()
    for level in (0.0, 0.25):
        assert torch.equal(extract(torch.full((1000,), level)), torch.full((4, 80), np.log(np.finfo(np.float32).eps)))


KINDS = ("log_mel", "kaldi_fbank")


@given(st.integers(1, 4000), st.integers(1, 4), st.sampled_from(KINDS))
def test_lengths(n, stack, kind):
    config = FeatureConfig(rate=8000, mels=8, stack=stack, kind=kind)
    x = config.build()(torch.randn(n))
    assert x.shape == (config.frames(n), 8 * stack) and torch.isfinite(x).all()


@pytest.mark.parametrize("kind", KINDS)
def test_batch_equals_alone(kind):
    extract = FeatureConfig(mels=20, stack=3, kind=kind).build()
    waves = [np.random.randn(n).astype(np.float32) for n in (4000, 300, 9000)]
    x, lens = extract.batch(*pad_waves(waves))
    for row, n, wave in zip(x, lens.tolist(), waves):
        assert torch.equal(row[:n], extract(torch.from_numpy(wave))) and row[n:].abs().sum() == 0


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("lens", [(4000, 300, 9000), (100, 30, 900), (8000, 7999, 7901)])
def test_batch_at_once_equals_row_by_row(normalise, lens):
    log_mel = LogMel(FeatureConfig(mels=20, stack=3, normalise=normalise))
    waves, lens = 0.1 * torch.randn(3, 9500)[:, : max(lens) + 7], torch.tensor(lens)
    expected, expected_lens = log_mel.batch(waves, lens)
    found, found_lens = log_mel._batch_at_once(waves, lens)
    assert torch.equal(found_lens, expected_lens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def utterance_of_words(n=16000, seed=0):
    """Bursts of noise, and nothing between them, near -24 dBFS."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=n) * (np.arange(n) // 2000 % 2)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", NORMALISE[1:])
@pytest.mark.parametrize("gain", [0.1, 3.16])
def test_level_does_not_matter(kind, normalise, gain):
    extract = FeatureConfig(kind=kind, normalise=normalise).build()
    wave = torch.from_numpy(utterance_of_words() + 0.05 * utterance_of_words(seed=1)[::-1])
    torch.testing.assert_close(extract(gain * wave), extract(wave), atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_pauses_and_single_words_change_the_level_little(kind):
    """Per-utterance means and variances move with the share of pauses; the level moves by 10 log10 of that share."""
    wave = torch.from_numpy(utterance_of_words())
    padded = torch.cat([wave, torch.zeros(3 * len(wave))])
    found, expected = (FeatureConfig(kind=kind, normalise="level").build()(x) for x in (padded, wave))
    # Frames of pure silence lie at the bottom in both; the frames of the words rise by the level's 6 dB.
    words = expected.mean(1) > -3
    assert words.any()
    torch.testing.assert_close(found[: len(expected)][words], expected[words] + 2 * np.log(2), atol=0.05, rtol=0)


def test_level_by_hand():
    """Against the definition in float64: logarithm of the mean power over frames and bands, cut 60 dB below."""
    wave = torch.from_numpy(utterance_of_words())
    energies = FeatureConfig(mels=20).build()(wave).double()
    expected = (energies - energies.exp().mean().log()).clamp(min=-6 * np.log(10))
    torch.testing.assert_close(
        FeatureConfig(mels=20, normalise="level").build()(wave).double(), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_silence_is_finite_and_is_not_amplified_to_speech(kind, normalise):
    extract = FeatureConfig(kind=kind, normalise=normalise).build()
    silent = extract(torch.zeros(1000))
    assert silent.isfinite().all()
    assert normalise != "level" or float(silent.max()) < -2 * np.log(10)
    assert kind != "log_mel" or normalise != "global" or float(silent.max()) == pytest.approx(np.log(1e-10))


@pytest.mark.parametrize(
    "settings",
    [{"normalise": "none"}, {"mels": 0}, {"low_hz": 9000.0}, {"high_hz": 9000.0},
     {"kind": "kaldi_fbank", "mels": 3}, {"kind": "kaldi_fbank", "floor": 1e-5}],
)  # fmt: skip
def test_bad_settings(settings):
    with pytest.raises(ValueError):
        FeatureConfig(**settings)
