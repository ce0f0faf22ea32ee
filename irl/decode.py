"""Decode data directories with a checkpoint: python -m irl.decode CHECKPOINT --data DIR ... --out OUT

For each directory writes OUT/NAME/text (the best hypotheses, as a Kaldi table), OUT/NAME/nbest.jsonl (all of them with
their scores by name) and OUT/NAME/done.json, which tells a second run that there is nothing left to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from irl import command, files
from irl.data.kaldi import Utterance, num_samples, read_data_dir, read_wave, write_table
from irl.tasks.beam_search import SearchOptions
from irl.tasks.recogniser import SEARCHES, Recogniser


def file_digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def data_digest(path: Path, pipes: bool) -> str:
    """Of ids, texts and audio; audio that is no plain file enters by its entry in wav.scp."""
    hashed = hashlib.blake2b(digest_size=8)
    for u in read_data_dir(path, allow_pipes=pipes):
        path = Path(u.wav)
        hashed.update(f"{u.id} {u.text} {u.start} {u.end}\n".encode())
        hashed.update(path.read_bytes() if path.is_file() else u.wav.encode())
    return hashed.hexdigest()


def decode_dir(
    recogniser: Recogniser, data: Path, out: Path, batch_size: int, done: dict[str, Any], pipes: bool
) -> None:
    """Decode one data directory; batches hold utterances of similar lengths."""
    utterances = read_data_dir(data, allow_pipes=pipes)
    for u in utterances:
        # A reference with a character that cannot be written would count as errors of the model.
        recogniser.vocabulary.encode(u.text or "", f"{data / 'text'}: {u.id}")
    rate = recogniser.config.features.rate
    lengths = num_samples(data, utterances, rate)
    order = sorted(utterances, key=lambda u: (lengths[u.id], u.id))
    batches: list[list[Utterance]] = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    texts, lines = {}, {}
    begin = time.monotonic()
    with command.progress(None, data.name, total=len(order), unit="utt") as bar:
        for batch in batches:
            found = recogniser([read_wave(u, rate) for u in batch])
            for u, hypotheses in zip(batch, found):
                texts[u.id] = recogniser.text(hypotheses[0])
                lines[u.id] = json.dumps(
                    {
                        "id": u.id,
                        "nbest": [{"text": recogniser.text(h), "score": h.score, **h.scores} for h in hypotheses],
                    }
                )
            bar.update(len(batch))
    seconds = time.monotonic() - begin
    audio = sum(lengths.values()) / rate
    write_table(out / "text", texts)
    files.write(out / "nbest.jsonl", "".join(lines[u.id] + "\n" for u in utterances))
    files.write(out / "done.json", json.dumps({**done, "seconds": round(seconds, 2), "audio": round(audio, 2)}) + "\n")
    command.logger.info(f"{out}: {len(order)} utterances, real-time factor {seconds / audio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.decode", description="Decode data directories.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Kaldi data directories")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--search", choices=SEARCHES, default="joint")
    parser.add_argument("--beam", type=int, default=SearchOptions.beam)
    parser.add_argument("--ctc-weight", type=float, default=SearchOptions.ctc_weight)
    parser.add_argument("--length-bonus", type=float, default=SearchOptions.length_bonus)
    parser.add_argument("--nbest", type=int, default=SearchOptions.nbest)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command.log_to(args.out / "decode.log")
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    weight = 0.0 if args.search == "attention" else args.ctc_weight
    try:
        options = SearchOptions(args.beam, weight, args.length_bonus, nbest=args.nbest)
    except ValueError as error:
        parser.error(str(error))
    recogniser = Recogniser(args.checkpoint, args.search, options)
    done = {
        "search": args.search,
        **dataclasses.asdict(options),
    }
    weights = file_digest(args.checkpoint)
    names = [data.name for data in args.data]
    if len(set(names)) < len(names):
        parser.error(f"data directories must have different names, got {', '.join(names)}")
    for data in args.data:
        out = args.out / data.name
        marker = out / "done.json"
        wanted = {"options": done, "weights": weights, "data": data_digest(data, args.allow_pipes)}
        if marker.exists() and wanted.items() <= json.loads(marker.read_text()).items():
            command.logger.info(f"{out}: already decoded in this way")
            continue
        marker.unlink(missing_ok=True)
        decode_dir(recogniser, data, out, args.batch_size, wanted, args.allow_pipes)


if __name__ == "__main__":
    command.run_command(main)
