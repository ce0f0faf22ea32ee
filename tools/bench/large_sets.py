"""Start-up and memory of training on large sets, made up: a list of utterances without audio, and images.

Each alternative has a process of its own. Of the list, training reads ids, recordings, speakers, targets and lengths,
hashes the ids, and makes the batches of two epochs; lhotse, where it is installed, opens the same list as cuts in
memory, and makes no batches. Of the images, training opens the set and makes 300 batches of pairs; numpy only loads it.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from harness import machine

WORDS, PER_SPEAKER = 5000, 200
CONF = Path(__file__).parents[2] / "egs/cifar/conf/short/irl_batching.yaml"


def write_list(folder: Path, count: int) -> None:
    """A data directory of utterances of 1 to 16 s and 5 to 35 words, and the same as lhotse's cuts."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)]
    names = ("wav.scp", "text", "utt2spk", "utt2num_samples")
    files = [open(folder / name, "w") for name in names]
    with gzip.open(folder / "cuts.jsonl.gz", "wt", compresslevel=1) as cuts:
        for i in range(count):
            speaker = f"spk{i // PER_SPEAKER:06d}"
            key, samples = f"{speaker}-{i:08d}", draw.randint(16000, 256000)
            path, text = f"/corpora/large/{speaker}/{key}.flac", " ".join(draw.choices(words, k=draw.randint(5, 35)))
            for file, value in zip(files, (path, text, speaker, samples)):
                file.write(f"{key} {value}\n")
            shared = {"id": key, "duration": samples / 16000, "channel": 0}
            source = {"type": "file", "channels": [0], "source": path}
            recording = {"id": key, "sources": [source], "sampling_rate": 16000, "num_samples": samples}
            cut = {**shared, "start": 0, "type": "MonoCut", "recording": {**recording, "duration": samples / 16000}}
            cut["supervisions"] = [{**shared, "recording_id": key, "start": 0, "text": text, "speaker": speaker}]
            cuts.write(json.dumps(cut) + "\n")
    for file in files:
        file.close()


def write_images(path: Path, count: int) -> None:
    from irl.data.images import Images, write

    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    write(path, Images(pixels, draw.integers(0, 10, count), np.arange(count), [str(i) for i in range(10)]))


def read(kind: str, folder: Path) -> None:
    """Open a set, and print CPU seconds and MB: what importing the packages took, and what there was at the most."""
    begin, memory = time.process_time(), Memory()
    if kind == "lhotse, cuts":
        import lhotse

        imported = time.process_time(), memory.now()
        lhotse.CutSet.from_file(folder / "cuts.jsonl.gz").to_eager()
    elif kind == "numpy, images":
        imported = time.process_time(), memory.now()
        with np.load(folder / "images.npz") as content:
            content["images"]
    elif kind == "irl, images":
        import torch

        from irl.training.registry import read_config
        from irl.training.task import BatchSpec
        from irl.vision.data import Statistics, VisionData

        imported = time.process_time(), memory.now()
        statistics = Statistics(torch.full((3,), 128.0), torch.full((3,), 74.0), torch.eye(3))
        images = VisionData(str(folder / "images.npz"), read_config(CONF, []), statistics, "train")
        for i in range(300):
            images.make(1, BatchSpec(i, True, 1))
    else:
        from irl.data.kaldi import read_texts
        from irl.data.vocabulary import Vocabulary
        from irl.speech.config import SpeechConfig
        from irl.speech.data import SpeechData
        from irl.training.config import ObjectiveConfig

        imported = time.process_time(), memory.now()
        config = SpeechConfig(str(folder), str(folder), "", "", objective=ObjectiveConfig(alpha=1, beta=0, gamma=0))
        vocabulary = Vocabulary.from_texts(read_texts(folder / "text")[1])
        data = SpeechData(config.train_dir, config, vocabulary, "train")
        for epoch in (0, 1):
            data.batches[epoch]
    print(json.dumps([imported[0] - begin, time.process_time() - imported[0], imported[1], memory.most]))


class Memory(threading.Thread):
    """Looks every 10 ms at the memory of this process, MB, without files that it maps, which the system drops when it
    needs the room."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self.start()

    def run(self) -> None:
        while True:
            self.most = max(self.most, self.now())
            time.sleep(0.01)

    @staticmethod
    def now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.read[0], Path(args.read[1]))
        return
    peers = ["lhotse, cuts"] if importlib.util.find_spec("lhotse") else []
    print(f"## Sets of {args.utterances:,} utterances and {args.images:,} images\n")
    print("| | CPU s, imports | CPU s, the set | MB after imports | MB at the most |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_list(Path(folder), args.utterances)
        write_images(Path(folder) / "images.npz", args.images)
        for kind in ("irl, utterances", *peers, "irl, images", "numpy, images"):
            command = [sys.executable, __file__, "--read", kind, folder]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(
                f"| {kind} | "
                + " | ".join(f"{x:.1f}" if x < 100 else f"{x:.0f}" for x in json.loads(run.stdout))
                + " |"
            )
    print(f"\n{machine()}.")


if __name__ == "__main__":
    main()
