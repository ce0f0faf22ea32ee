"""Decode data directories with a checkpoint: python -m irl.decode CHECKPOINT --data DIR ... --out OUT

Writes into OUT/NAME/ for each directory, as ESPnet does, text, token, token_int and score of the best hypotheses; also
nbest.jsonl, all hypotheses with their scores by name, and done.json, which tells a second run that nothing is left.

--jobs N --job I decodes every N-th batch alone, into OUT/NAME/part.I.of.N.jsonl; the same command with --jobs N and no
--job then joins the N parts. Batches are the same for any N, and with them the results.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from irl import checkpoint, command, files, results
from irl.data.kaldi import Utterance, num_samples, read_data_dir, read_wave, write_table
from irl.errors import UserError
from irl.experiment import saved_config
from irl.tasks import search_options
from irl.tasks.recogniser import Recogniser
from irl.tasks.search_options import SearchOptions


def data_digest(path: Path, pipes: bool) -> str:
    """Of ids, texts and audio; audio that is no plain file enters by its entry in wav.scp."""
    hashed = hashlib.blake2b(digest_size=8)
    for u in read_data_dir(path, allow_pipes=pipes):
        path = Path(u.wav)
        hashed.update(f"{u.id} {u.text} {u.start} {u.end}\n".encode())
        hashed.update(path.read_bytes() if path.is_file() else u.wav.encode())
    return hashed.hexdigest()


def lm_digest(path: Path | None) -> str | None:
    """Of a language model's configuration, as results name it."""
    return None if path is None else results.run_digest(saved_config(checkpoint.load(path), path))


def batches_of(data: Path, utterances: list[Utterance], rate: int, size: int) -> list[list[Utterance]]:
    """Utterances of similar lengths together."""
    lengths = num_samples(data, utterances, rate)
    order = sorted(utterances, key=lambda u: (lengths[u.id], u.id))
    return [order[i : i + size] for i in range(0, len(order), size)]


def decode_part(recogniser: Recogniser, data: Path, batches: list[list[Utterance]], part: Path, mark: Any) -> None:
    """Decode batches into a part file: its mark, then an utterance a line."""
    vocabulary, rate = recogniser.vocabulary, recogniser.config.features.rate
    for u in (u for batch in batches for u in batch):
        # A reference with a character that cannot be written would count as errors of the model.
        vocabulary.encode(u.text or "", f"{data / 'text'}: {u.id}")
    lines, audio, begin = [], 0.0, time.monotonic()
    with command.progress(None, data.name, total=sum(map(len, batches)), unit="utt") as bar:
        for batch in batches:
            waves = [read_wave(u, rate) for u in batch]
            audio += sum(map(len, waves)) / rate
            for u, found in zip(batch, recogniser(waves)):
                nbest = [{"text": recogniser.text(h), "tokens": h.tokens, "score": h.score, **h.scores} for h in found]
                lines.append({"id": u.id, "nbest": nbest})
            bar.update(len(batch))
    head = {"mark": mark, "seconds": round(time.monotonic() - begin, 2), "audio": round(audio, 2)}
    files.write(part, "".join(json.dumps(line) + "\n" for line in [head, *lines]))


def head_of(part: Path) -> dict[str, Any]:
    """The first line of a part file, empty where there is none."""
    if not part.exists():
        return {}
    with open(part) as file:
        head: dict[str, Any] = json.loads(file.readline())
    return head


def join(
    out: Path, parts: list[Path], utterances: list[Utterance], tokens: list[str], mark: Any, part_mark: Any
) -> None:
    """Join part files into the tables of all utterances. Raises UserError if a part is of another run or one lacks."""
    found: dict[str, Any] = {}
    seconds = audio = 0.0
    for path in parts:
        if head_of(path).get("mark") != part_mark:
            raise UserError(f"{path}: this part is missing or of another run; decode it again")
        head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        seconds, audio = seconds + head["seconds"], audio + head["audio"]
        found.update({line["id"]: line["nbest"] for line in lines})
    for u in utterances:
        if u.id not in found:
            raise UserError(f"{out}: utterance {u.id} is in none of {len(parts)} parts; decode them again")
    best = {key: nbest[0] for key, nbest in found.items()}
    write_table(out / "text", {key: h["text"] for key, h in best.items()})
    write_table(out / "token", {key: " ".join(tokens[i] for i in h["tokens"]) for key, h in best.items()})
    write_table(out / "token_int", {key: " ".join(map(str, h["tokens"])) for key, h in best.items()})
    write_table(out / "score", {key: f"{h['score']:.6f}" for key, h in best.items()})
    files.write(out / "nbest.jsonl", "".join(json.dumps({"id": u.id, "nbest": found[u.id]}) + "\n" for u in utterances))
    done = {**mark, "seconds": round(seconds, 2), "audio": round(audio, 2)}
    files.write(out / "done.json", json.dumps(done) + "\n")
    for path in out.glob("part.*.jsonl"):
        path.unlink()
    command.logger.info(f"{out}: {len(utterances)} utterances, real-time factor {seconds / audio:.3f}")


def with_tuned(options: SearchOptions, path: Path) -> tuple[SearchOptions, list[str]]:
    """The options with the weights that `irl.tune` found, and the names of the data that it found them on."""
    try:
        content = json.loads(path.read_text())
        weights: dict[str, Any] = {name: float(content["options"][name]) for name in search_options.WEIGHTS}
        return dataclasses.replace(options, **weights), list(content["data"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of tuned weights; run irl.tune first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of irl.tune: {error!r}") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m irl.decode", description="Decode data directories.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Kaldi data directories")
    parser.add_argument("--out", type=Path, required=True)
    search_options.add_arguments(parser)
    parser.add_argument("--lm", type=Path, help="checkpoint of a character LM, for shallow fusion")
    parser.add_argument("--tuned", type=Path, help="take the weights from this file of irl.tune")
    parser.add_argument("--jobs", type=int, default=1, help="number of parts")
    parser.add_argument("--job", type=int, help="decode this part alone, 1 ... jobs; without it the parts are joined")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command.log_to(args.out / ("decode.log" if args.job is None else f"decode.{args.job}.log"))
    if min(args.batch_size, args.jobs) < 1 or not 1 <= (args.job or 1) <= args.jobs:
        parser.error(
            f"expected --batch-size >= 1 and 1 <= --job <= --jobs, got {args.batch_size}, {args.job}, {args.jobs}"
        )
    options, tuned = search_options.from_arguments(parser, args), None
    if args.tuned is not None:
        options, tuned = with_tuned(options, args.tuned)
    elif args.lm is not None and not options.lm_weight:
        raise UserError("--lm without --lm-weight (or --tuned) would do nothing")
    names = [data.name for data in args.data]
    if len(set(names)) < len(names):
        parser.error(f"data directories must have different names, got {', '.join(names)}")
    recogniser = Recogniser(args.checkpoint, options, args.lm)
    used = {**options.named(), "lm": lm_digest(args.lm), "tuned": tuned}
    used = {key: value for key, value in used.items() if value is not None}
    weights = {
        "weights": checkpoint.file_digest(args.checkpoint),
        **({"lm_weights": checkpoint.file_digest(args.lm)} if args.lm else {}),
    }
    for data in args.data:
        out = args.out / data.name
        mark = {"options": used, **weights, "data": data_digest(data, args.allow_pipes)}
        with contextlib.suppress(FileNotFoundError):  # another part's job may remove it too
            if mark.items() <= json.loads((out / "done.json").read_text()).items():
                command.logger.info(f"{out}: already decoded in this way")
                continue
            (out / "done.json").unlink()
        utterances = read_data_dir(data, allow_pipes=args.allow_pipes)
        batches = batches_of(data, utterances, recogniser.config.features.rate, args.batch_size)
        parts = [out / f"part.{job}.of.{args.jobs}.jsonl" for job in range(1, args.jobs + 1)]
        # What a part holds depends on the batches too.
        part_mark = {**mark, "batch_size": args.batch_size}
        if args.jobs == 1 or args.job is not None:
            job = args.job or 1
            if head_of(parts[job - 1]).get("mark") != part_mark:
                decode_part(recogniser, data, batches[job - 1 :: args.jobs], parts[job - 1], part_mark)
        if args.job is None:
            join(out, parts, utterances, recogniser.vocabulary.tokens, mark, part_mark)


if __name__ == "__main__":
    command.run_command(main)
