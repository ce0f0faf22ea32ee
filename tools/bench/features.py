"""Log-mel features on one core beside torchaudio, ESPnet, librosa and lhotse: 25 ms windows, 10 ms hop, 80 mels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Report, alternate, arguments, parse

from irl.data.features import FeatureConfig, LogMel, mel_filters, pad_waves

RATE, COUNT, WINDOW, HOP, FFT, MELS = 16000, 16, 400, 160, 512, 80


def main() -> None:
    args = parse(arguments(__doc__))
    import librosa
    import torchaudio
    from espnet2.asr.frontend.default import DefaultFrontend
    from lhotse.features.kaldi.layers import Wav2LogFilterBank

    report = Report("Log-mel features", args, ("torchaudio", "librosa", "espnet", "lhotse"))
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in rng.integers(4 * RATE, 16 * RATE, COUNT)]
    padded, lens = pad_waves(waves)
    tensors = [torch.from_numpy(x) for x in waves]
    config = FeatureConfig(rate=RATE, mels=MELS)
    ours = LogMel(config)
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, FFT, WINDOW, HOP, f_min=20.0, n_mels=MELS, center=False, mel_scale="htk", norm=None
    )
    espnet = DefaultFrontend(
        fs=RATE, n_fft=FFT, win_length=WINDOW, hop_length=HOP, n_mels=MELS, fmin=20, frontend_conf=None, htk=True
    )
    lhotse = Wav2LogFilterBank(sampling_rate=RATE, num_filters=MELS, low_freq=20.0, high_freq=RATE / 2, dither=0.0)
    kaldi: dict[str, Any] = {"num_mel_bins": MELS, "dither": 0.0, "sample_frequency": RATE, "window_type": "hanning"}

    def librosa_one(x: np.ndarray) -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=x, sr=RATE, n_fft=FFT, win_length=WINDOW, hop_length=HOP, n_mels=MELS, fmin=20, center=False, htk=True
        )
        return np.log(np.maximum(power, 1e-10))

    steps = {
        "irl": lambda: ours.batch(padded, lens),
        "torchaudio MelSpectrogram, one by one": lambda: [mel(x).clamp(min=1e-10).log() for x in tensors],
        "torchaudio MelSpectrogram, one batch": lambda: mel(padded).clamp(min=1e-10).log(),
        "torchaudio kaldi.fbank": lambda: [torchaudio.compliance.kaldi.fbank(x[None], **kaldi) for x in tensors],
        "ESPnet DefaultFrontend": lambda: espnet(padded, lens),
        "librosa": lambda: [librosa_one(x) for x in waves],
        "lhotse": lambda: [lhotse(x[None]) for x in tensors],
    }
    # Packages frame differently (centred, padded, with pre-emphasis), so it is the filters that are compared.
    torch.testing.assert_close(mel.mel_scale.fb, mel_filters(config), atol=2e-4, rtol=0)
    audio = sum(map(len, waves)) / RATE
    report.say(f"{COUNT} utterances, {audio:.0f} s in all, {MELS} mels, float32.")
    with torch.no_grad():
        report.table(alternate(steps, args.rounds, label="features"), "irl", audio, "x real time")
    report.close()


if __name__ == "__main__":
    main()
