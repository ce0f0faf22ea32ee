"""Noising of waveforms on one core: mixing at an SNR and reverberation, beside torchaudio, lhotse and audiomentations.

16 utterances of 4 to 16 s at 16 kHz; every utterance has its own noise clip and its own room impulse response.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from harness import Report, alternate, arguments, parse

from irl.noise.audio import SNRS, Additive, Mixed, Reverberation, add_at_snr
from irl.noise.bank import Bank, RIRBank
from irl.noise.convolution import reverberate, spectrum

RATE, COUNT, SNR = 16000, 16, 10.0


def material(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Utterances, noises of the same lengths, and impulse responses of 0.2-0.6 s; the latter two also as files."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4 * RATE, 16 * RATE, COUNT)
    speech = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in lengths]
    noise = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in lengths]
    rirs = []
    for i, seconds in enumerate(np.linspace(0.2, 0.6, COUNT)):
        t = np.arange(int(seconds * RATE))
        rir = rng.normal(size=len(t)) * np.exp(-6.9 * t / len(t))
        rir[32] = 8.0  # the direct sound
        rirs.append((rir / np.abs(rir).max()).astype(np.float32))
        for kind, x in (
            ("noise", noise[i]),
            ("simulated_rirs/smallroom", rirs[i]),
            ("simulated_rirs/mediumroom", rirs[i]),
        ):
            path = folder / kind / f"{i:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, x, RATE, subtype="FLOAT")
    return speech, noise, rirs


def padded(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = [torch.from_numpy(x) for x in waves]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), torch.tensor([len(x) for x in waves])


def mixing(report: Report, folder: Path, speech: list[np.ndarray], noise: list[np.ndarray], rounds: int) -> None:
    import torchaudio
    from audiomentations import AddBackgroundNoise
    from lhotse.audio.mixer import AudioMixer

    def plain() -> list[np.ndarray]:
        out = []
        for x, n in zip(speech, noise):
            gain = np.sqrt(np.mean(x * x) / np.mean(n * n)) * np.float32(10 ** (-SNR / 20))
            out.append(x + gain * n)
        return out

    def ours() -> list[np.ndarray]:
        return [add_at_snr(x, n, SNR) for x, n in zip(speech, noise)]

    waves, lens = padded(speech)
    additive = Additive(Bank(folder, RATE, ["noise"]), ("noise",))
    clips = torch.arange(COUNT)[:, None]
    params = Mixed(["noise"] * COUNT, clips, torch.zeros_like(clips), torch.full((COUNT,), SNR))

    tensors = [(torch.from_numpy(x)[None], torch.from_numpy(n)[None]) for x, n in zip(speech, noise)]
    level = torch.tensor([SNR])

    def lhotse_mix() -> list[np.ndarray]:
        out = []
        for x, n in zip(speech, noise):
            mixer = AudioMixer(x[None], RATE)
            mixer.add_to_mix(n[None], snr=SNR)
            out.append(mixer.mixed_audio)
        return out

    transforms = [
        AddBackgroundNoise(str(folder / "noise" / f"{i:02d}.wav"), min_snr_db=SNR, max_snr_db=SNR, p=1.0)
        for i in range(COUNT)
    ]
    steps = {
        "irl, one by one": ours,
        "irl, batch with bank": lambda: additive.apply(waves, lens, params),
        "numpy, scale and add": plain,
        "torchaudio": lambda: [torchaudio.functional.add_noise(x, n, level) for x, n in tensors],
        "lhotse": lhotse_mix,
        "audiomentations": lambda: [t(x, RATE) for t, x in zip(transforms, speech)],
    }
    expected = plain()
    batch = additive.apply(waves, lens, params)
    theirs = {name: step() for name, step in steps.items() if name != "irl, batch with bank"}
    for i, x in enumerate(expected):
        np.testing.assert_allclose(batch[i, : len(x)].numpy(), x, atol=1e-5)
        for name, found in theirs.items():
            np.testing.assert_allclose(np.asarray(found[i]).reshape(-1), x, atol=1e-5, err_msg=name)
    audio = sum(map(len, speech)) / RATE
    report.say(
        f"Mixing at an SNR, {COUNT} utterances, {audio:.0f} s in all. All alternatives give the same samples "
        "(checked). Training uses `irl, batch with bank`. audiomentations reads the noise from its file (in the page "
        "cache) each time."
    )
    report.table(alternate(steps, rounds, label="mixing"), "irl, batch with bank", audio, "x real time")


def rooms(report: Report, folder: Path, speech: list[np.ndarray], rirs: list[np.ndarray], rounds: int) -> None:
    import torchaudio
    from audiomentations import ApplyImpulseResponse
    from lhotse import Recording
    from lhotse.augmentation import ReverbWithImpulseResponse
    from scipy.signal import fftconvolve, oaconvolve

    spectra = [spectrum(rir) for rir in rirs]
    paths = [folder / "simulated_rirs" / "smallroom" / f"{i:02d}.wav" for i in range(COUNT)]
    waves, lens = padded(speech)
    bank = Reverberation(RIRBank(folder, RATE, sizes=("smallroom",)))
    tensors = [(torch.from_numpy(x)[None], torch.from_numpy(h)[None]) for x, h in zip(speech, rirs)]
    transforms = [ApplyImpulseResponse(str(path), p=1.0) for path in paths]
    recordings = []
    for rir in rirs:
        # In memory, so that no disk is timed; lhotse still decodes it at every call.
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            soundfile.write(file.name, rir, RATE, subtype="FLOAT")
            recordings.append(Recording.from_file(file.name).move_to_memory(format="wav"))
    lhotse_reverb = [ReverbWithImpulseResponse(rir=r) for r in recordings]

    def scipy_oa() -> list[np.ndarray]:
        out = []
        for x, h in zip(speech, rirs):
            peak = int(np.abs(h).argmax())
            y = oaconvolve(x, h)[peak : peak + len(x)]
            out.append(y * np.sqrt(np.dot(x, x) / np.dot(y, y)))
        return out

    steps = {
        "irl, one by one": lambda: [reverberate(x, s) for x, s in zip(speech, spectra)],
        "irl, batch with bank": lambda: bank.apply(waves, lens, paths),
        "irl, spectrum not cached": lambda: [reverberate(x, spectrum(h)) for x, h in zip(speech, rirs)],
        "scipy oaconvolve": scipy_oa,
        "torchaudio fftconvolve": lambda: [torchaudio.functional.fftconvolve(x, h) for x, h in tensors],
        "lhotse": lambda: [r(x[None], RATE) for r, x in zip(lhotse_reverb, speech)],
        "audiomentations": lambda: [t(x, RATE) for t, x in zip(transforms, speech)],
    }
    found = steps["irl, one by one"]()
    batch = bank.apply(waves, lens, paths)
    for i, (x, h) in enumerate(zip(speech, rirs)):
        peak = int(np.abs(h).argmax())
        y = fftconvolve(x.astype(np.float64), h.astype(np.float64))[peak : peak + len(x)]
        y *= np.sqrt(np.dot(x, x) / np.dot(y, y))
        np.testing.assert_allclose(found[i], y, atol=1e-5)
        np.testing.assert_allclose(batch[i, : len(x)].numpy(), y, atol=1e-5)
    audio = sum(map(len, speech)) / RATE
    report.say(
        f"Reverberation, {COUNT} utterances, each with a different response of 0.2-0.6 s. Ours equals a float64 "
        "convolution (checked). The peers use the same convolution, but align and scale the output differently."
    )
    report.table(alternate(steps, rounds, label="reverberation"), "irl, batch with bank", audio, "x real time")


def main() -> None:
    args = parse(arguments(__doc__))
    report = Report("Noising", args, ("torchaudio", "lhotse", "audiomentations", "scipy"))
    assert SNR in SNRS["noise"]
    with tempfile.TemporaryDirectory() as name:
        speech, noise, rirs = material(Path(name))
        mixing(report, Path(name), speech, noise, args.rounds)
        rooms(report, Path(name), speech, rirs, args.rounds)
    report.close()


if __name__ == "__main__":
    main()
