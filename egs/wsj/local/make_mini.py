"""Stage 0 of --corpus mini: synthesise the corpus. python local/make_mini.py DIR [--nj N]

About 1.5 hours of newspaper-like English by eSpeak NG in 20 voices. No sentence is in two sets; four voices speak
only in dev and test. DIR/{train,dev,test,talkers}/ are Kaldi data directories; talkers are recordings to overlap
others with.
"""

from __future__ import annotations

import math
import multiprocessing
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.signal  # noqa: F401  (imported once here, with soundfile, not again in every forked process)
import soundfile  # noqa: F401
from espeak import RATE, Espeak
from grammar import sentences

from irl.core.arguments import Parser, positive
from irl.core.errors import run_command
from irl.core.fingerprint import stable_hash
from irl.core.logging import progress
from irl.data.audio import resample, write_wav
from irl.data.kaldi import Utterance, write_data_dir

# name: (eSpeak voice, words a minute, pitch). The last four are held out from training, the four before speak as
# background talkers too.
VOICES = {
    "us-m1": ("en-us+m1", 190, 45),
    "us-m2": ("en-us+m2", 205, 40),
    "us-m3": ("en-us+m3", 180, 50),
    "us-m4": ("en-us+m4", 200, 55),
    "us-f1": ("en-us+f1", 190, 55),
    "us-f2": ("en-us+f2", 205, 50),
    "us-f3": ("en-us+f3", 185, 60),
    "us-f4": ("en-us+f4", 195, 45),
    "gb-m5": ("gmw/en+m5", 190, 45),
    "gb-m6": ("gmw/en+m6", 200, 50),
    "gb-f5": ("gmw/en+f5", 190, 55),
    "rp-m7": ("en-gb-x-rp+m7", 195, 45),
    "rp-f2": ("en-gb-x-rp+f2", 185, 50),
    "sc-m1": ("en-gb-scotland+m1", 190, 50),
    "sc-f4": ("en-gb-scotland+f4", 200, 55),
    "ny-m3": ("en-us-nyc+m3", 195, 40),
    "la-m2": ("en-gb-x-gbclan+m2", 190, 50),
    "la-f1": ("en-gb-x-gbclan+f1", 195, 50),
    "cw-m4": ("en-gb-x-gbcwmd+m4", 185, 45),
    "cw-f3": ("en-gb-x-gbcwmd+f3", 190, 55),
}
HELD_OUT = 4
# Sentences of a set, as shares of those for training.
SHARES = {"train": 1, "dev": 1 / 40, "test": 1 / 30, "talkers": 1 / 40}
OUTPUT_RATE = 16000
# eSpeak's pauses are digital silence, whose log-mel no recording ever shows.
DITHER_DB = -70.0


class Job(NamedTuple):
    id: str
    voice: str
    text: str
    path: Path


def plan(folder: Path, utterances: int) -> dict[str, list[Job]]:
    """Every utterance of every set."""
    rng = random.Random(1)
    sizes = {name: math.ceil(utterances * share) for name, share in SHARES.items()}
    texts = iter(sentences(sum(sizes.values()), seed=1))
    known, held_out = list(VOICES)[:-HELD_OUT], list(VOICES)[-HELD_OUT:]
    jobs: dict[str, list[Job]] = {}
    for name, size in sizes.items():
        jobs[name] = []
        for i in range(size):
            # Half of dev and test is by held-out voices.
            voices = held_out if name in ("dev", "test") and i % 2 else known
            voice = voices[i // 2 % len(voices)] if name in ("dev", "test") else rng.choice(voices)
            key = f"{voice}-{name}-{i:04d}"
            text = next(texts)
            # The file's name holds what is said and how, so that a file kept from another plan is never mistaken.
            mark = f"{stable_hash(text, *VOICES[voice]):016x}"[-8:]
            jobs[name].append(Job(key, voice, text, folder / "wav" / name / f"{key}-{mark}.wav"))
    return jobs


def synthesise(job: Job) -> None:
    """One utterance, at a level that varies as among recordings."""
    name, speed, pitch = VOICES[job.voice]
    rng = np.random.default_rng([1, *job.id.encode()])
    x = resample(Espeak().speak(job.text, name, speed, pitch), RATE, OUTPUT_RATE)
    x = x * 10 ** ((rng.uniform(-29, -23) - 20 * np.log10(np.sqrt(np.mean(x**2)))) / 20)
    x = x + 10 ** (DITHER_DB / 20) * rng.normal(size=len(x))
    write_wav(job.path, np.clip(x, -1, 1), OUTPUT_RATE)


def main() -> None:
    parser = Parser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--utterances", type=positive, default=2400, help="for training; the other sets follow")
    parser.add_argument("--nj", type=positive, default=2)
    args = parser.parse_args()
    jobs = plan(args.folder, args.utterances)
    for name in jobs:
        (args.folder / "wav" / name).mkdir(parents=True, exist_ok=True)
    missing = [job for name in jobs for job in jobs[name] if not job.path.exists()]
    # A fresh process for every utterance: see irl.data.espeak.
    with multiprocessing.get_context("fork").Pool(args.nj, maxtasksperchild=1) as pool:
        for _ in progress(pool.imap_unordered(synthesise, missing), "synthesis", total=len(missing), unit="utt"):
            pass
    for name, rows in jobs.items():
        write_data_dir(args.folder / name, [Utterance(j.id, str(j.path), j.voice, j.text) for j in rows])
    words = {word for rows in jobs.values() for job in rows for word in job.text.split()}
    print(f"{args.folder}: {sum(map(len, jobs.values()))} utterances, {len(words)} words, {len(VOICES)} voices")


if __name__ == "__main__":
    run_command(main)
