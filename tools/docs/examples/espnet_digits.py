"""ESPnet2's own ASR training with the IRL loss, on digit strings of real voices:

    python espnet_digits.py FSDD WORK [--method irl_batching] [--seed 1]

FSDD is the folder of the Free Spoken Digit Dataset's recordings, {digit}_{speaker}_{index}.wav, 8 kHz. Recordings 0-14
of each digit and speaker are for testing, the others for training. WORK gets the Kaldi files and the trained models.
The model is a small Conformer with CTC and attention; words are decoded from CTC's best path. The last lines are the
digit error rate on clean strings and under two noises that training does not use.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from rapidfuzz.distance import Levenshtein

from irl.data.audio import read_audio, write_wav
from irl.data.features import pad_waves
from irl.integrations.espnet import IRLTask
from irl.noise import babble, telephone
from irl.noise.synth import noise_clip

RATE, EPOCHS, ITERATIONS = 8000, 4, 150
UPDATES = EPOCHS * ITERATIONS
WORDS = "zero one two three four five six seven eight nine".split()
CONFIG: dict[str, Any] = {
    "token_type": "word", "frontend": "default", "normalize": "utterance_mvn", "specaug": None,
    "frontend_conf": {"fs": RATE, "n_fft": 256, "hop_length": 80, "n_mels": 40},
    "encoder": "conformer", "decoder": "transformer",
    "encoder_conf": {"input_layer": "conv2d6", "output_size": 64, "attention_heads": 4, "linear_units": 256,
                     "num_blocks": 3, "cnn_module_kernel": 15, "rel_pos_type": "latest",
                     "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn"},
    "decoder_conf": {"attention_heads": 4, "linear_units": 128, "num_blocks": 1},
    "model_conf": {"ctc_weight": 0.5, "report_cer": False, "report_wer": False},
    "optim": "adam", "optim_conf": {"lr": 2.0e-3}, "scheduler": "warmuplr", "scheduler_conf": {"warmup_steps": 150},
    "batch_type": "unsorted", "batch_size": 8, "max_epoch": EPOCHS, "num_iters_per_epoch": ITERATIONS,
    "num_workers": 0, "ngpu": 0, "num_att_plot": 0, "use_matplotlib": False, "use_tensorboard": False,
    "keep_nbest_models": 1, "best_model_criterion": [["valid", "loss", "min"]], "log_interval": 50,
}  # fmt: skip
# What is added to this for each method; plain training is ESPnet's own, without noise.
NOISE = {"noise_db_range": "0_15", "noise_apply_prob": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "irl_batching": {**NOISE, "irl_conf": {"gamma": 0.0}},
    "irl_loss": {
        **NOISE,
        "irl_conf": {
            "gamma": 1.0, "distance": {"l2_mean": 0.3, "cosine": 0.3}, "warmup": UPDATES // 2,
            "layers": {"encoder.encoders.1": 1.0, "encoder": 1.0},
        },
    },
}  # fmt: skip
CONDITIONS = ("none", "babble", "telephone")


def prepare(fsdd: Path, work: Path, strings: int = 1200) -> None:
    """WORK/{train,test}: wav.scp, text and shape of strings of 3 to 5 digits of one speaker; WORK/noise.scp."""
    draw = random.Random(1)
    recordings: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(fsdd.glob("*_*_*.wav")):
        _, speaker, index = path.stem.split("_")
        recordings.setdefault((speaker, "test" if int(index) < 15 else "train"), []).append(path)
    if not recordings:
        raise SystemExit(f"{fsdd}: no recordings {{digit}}_{{speaker}}_{{index}}.wav")
    speakers = sorted({speaker for speaker, _ in recordings})
    files: dict[str, list[str]] = {}
    for part, count in (("train", strings // len(speakers)), ("test", None)):
        for speaker in speakers:
            left: list[Path] = []
            for number in itertools.count():
                if number == count or (count is None and number and len(left) < 3):
                    break
                if len(left) < 5 and (count or not number):
                    left = draw.sample(recordings[speaker, part], len(recordings[speaker, part]))
                chosen, left = left[: (length := draw.randint(3, 5))], left[length:]
                name = f"{speaker}-{part}-{number:04d}"
                wave = np.concatenate([read_audio(path, RATE) for path in chosen])
                write_wav(work / "wav" / f"{name}.wav", wave, RATE)
                text = " ".join(WORDS[int(path.name[0])] for path in chosen)
                for file, value in (("wav.scp", work / "wav" / f"{name}.wav"), ("text", text), ("shape", len(wave))):
                    files.setdefault(f"{part}/{file}", []).append(f"{name} {value}")
    for i in range(20):
        write_wav(work / "noise" / f"{i}.wav", noise_clip("train", i, 10.0, RATE), RATE)
        files.setdefault("noise.scp", []).append(f"{i} {work / 'noise' / f'{i}.wav'}")
    files["tokens.txt"] = ["<blank>", "<unk>", *WORDS, "<sos/eos>"]
    for name, lines in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("\n".join(lines) + "\n")
    (work / "talkers").mkdir(exist_ok=True)
    for path in {path for (_, part), paths in recordings.items() if part == "train" for path in paths}:
        (work / "talkers" / path.name).write_bytes(path.read_bytes())


def train(work: Path, method: str, seed: int, **settings: Any) -> Path:
    """The folder of the trained model. settings: of CONFIG, in place of those there."""
    out = work / f"{method}.{seed}"
    noise = {"noise_scp": str(work / "noise.scp")} if method != "baseline" else {}
    out.mkdir(parents=True, exist_ok=True)
    (out / "train.yaml").write_text(yaml.safe_dump({**CONFIG, **METHODS[method], **noise, "seed": seed, **settings}))
    command = ["--config", str(out / "train.yaml"), "--token_list", str(work / "tokens.txt"), "--output_dir", str(out)]
    for name, part in (("train", "train"), ("valid", "test")):  # the last epoch is taken, so nothing is chosen on test
        command += [f"--{name}_shape_file", str(work / part / "shape")]
        for file, key, kind in (("wav.scp", "speech", "sound"), ("text", "text", "text")):
            command += [f"--{name}_data_path_and_name_and_type", f"{work / part / file},{key},{kind}"]
    (ASRTask if method == "baseline" else IRLTask).main(cmd=command)
    return out


def noises(work: Path) -> dict[str, Any]:
    """The test conditions; the talkers are recordings for training."""
    return {"none": None, "babble": babble(work / "talkers", rate=RATE, snr=10), "telephone": telephone(RATE)}


@torch.no_grad()
def test(work: Path, model_folder: Path, **settings: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(errors, digits) of each test string, (N,) each, by condition. ESPnet reads the model."""
    epoch = {**CONFIG, **settings}["max_epoch"]
    model, args = ASRTask.build_model_from_file(model_folder / "config.yaml", model_folder / f"{epoch}epoch.pth", "cpu")
    model.eval()
    rows = [line.split(maxsplit=1) for line in (work / "test" / "text").read_text().splitlines()]
    counts: dict[str, list[tuple[int, int]]] = {}
    for condition, noise in noises(work).items():
        for first in range(0, len(rows), 20):
            part = rows[first : first + 20]
            waves, lens = pad_waves([read_audio(work / "wav" / f"{name}.wav", RATE) for name, _ in part])
            if noise is not None:
                waves = noise(waves, lens, [name for name, _ in part], epoch=0)
            states, frames = model.encode(waves, lens)
            for best, n, (_, text) in zip(model.ctc.argmax(states).tolist(), frames.tolist(), part):
                found = [args.token_list[token] for token, _ in itertools.groupby(best[:n]) if token]
                counts.setdefault(condition, []).append((Levenshtein.distance(found, text.split()), len(text.split())))
    return {c: tuple(np.array(column, np.int64) for column in zip(*pairs)) for c, pairs in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--method", choices=METHODS, default="irl_loss")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    prepare(args.fsdd, args.work)
    for condition, (errors, digits) in test(args.work, train(args.work, args.method, args.seed)).items():
        print(f"{condition}: {100 * errors.sum() / digits.sum():.1f} % of {digits.sum()} digits")


if __name__ == "__main__":
    main()
