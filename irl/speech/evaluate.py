"""Decode data directories with a trained recogniser.

OUT/NAME/ holds for each directory, as in ESPnet, text, token, token_int and score of the best hypotheses; also
nbest.jsonl, all hypotheses with their scores by name, and done.json, which tells a second run that the work is done.

With --jobs N --job I only every N-th batch is decoded, into OUT/NAME/part.I.of.N.jsonl; the same command with --jobs N
and no --job then joins the N parts. Batches are the same for any N, and with them the results.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Iterable, NamedTuple

import numpy as np

from irl.core import atomic_io
from irl.core.arguments import positive
from irl.core.errors import UserError
from irl.core.fingerprint import file_fingerprint, read_product, write_product
from irl.core.logging import log_to, logger, progress
from irl.data.kaldi import Utterance, Utterances, num_samples, read_data_dir, read_wave, write_table
from irl.reporting.results import run_fingerprint
from irl.speech import search_options
from irl.speech.fingerprint import of_test_set
from irl.speech.recogniser import Recogniser
from irl.speech.search_options import SearchOptions
from irl.training import checkpoint
from irl.training.registry import saved_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    search_options.add_arguments(parser)
    add_models(parser)
    parser.add_argument("--jobs", type=positive, default=1, help="number of parts")
    parser.add_argument("--job", type=positive, help="decode this part only, 1 ... jobs; without it, join the parts")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Options that name files which the search needs beside the recogniser."""
    parser.add_argument("--lm", type=Path, help="checkpoint of a character LM, for shallow fusion")
    parser.add_argument("--tuned", type=Path, help="file of decoding weights, written by irl tune")


def options_of(args: argparse.Namespace) -> tuple[SearchOptions, list[str] | None]:
    """The options of a command line, and the names of the data on which they were tuned, if they were."""
    options = search_options.from_arguments(args)
    if args.tuned is not None:
        return with_tuned(options, args.tuned)
    if args.lm is not None and not options.lm_weight:
        raise UserError("--lm without --lm-weight (or --tuned) would do nothing")
    return options, None


def evaluate(args: argparse.Namespace) -> None:
    """Decode each NAME=DATA_DIR of args.conditions, or DATA_DIR alone, into args.out. Transcripts are not needed."""
    log_to(args.out / ("evaluate.log" if args.job is None else f"evaluate.{args.job}.log"))
    if (args.job or 1) > args.jobs:
        raise UserError(f"expected --job of at most --jobs {args.jobs}, found {args.job}")
    options, tuned = options_of(args)
    folders = [Path(item.rpartition("=")[2]) for item in args.conditions]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise UserError(f"--conditions: data directories must have different names, got {', '.join(names)}")
    recogniser = Recogniser(args.checkpoint, options, args.lm)
    settings = {**options.named(), "lm": lm_fingerprint(args.lm), "tuned": tuned}
    fingerprint: dict[str, Any] = {
        "options": {key: value for key, value in settings.items() if value is not None},
        "weights": file_fingerprint(args.checkpoint),
    }
    if args.lm:
        fingerprint["lm_weights"] = file_fingerprint(args.lm)
        texts = checkpoint.load(args.lm).get("train_data")
        fingerprint.update({"lm_data": texts} if texts else {})
    for folder in folders:
        made_of = {**fingerprint, "data": of_test_set(folder)}
        decode(recogniser, folder, args.out / folder.name, made_of, args)


def decode(
    recogniser: Recogniser, data: Path, out: Path, fingerprint: dict[str, Any], args: argparse.Namespace
) -> None:
    """Decode one data directory, or a part of it, unless it is done."""
    if read_product(out / "done.json", fingerprint) is not None:
        logger.info(f"{out}: already decoded in this way")
        return
    with contextlib.suppress(FileNotFoundError):  # another part's job may remove it too
        (out / "done.json").unlink()
    utterances = read_data_dir(data, (data / "text").exists(), args.allow_pipes)
    batches = batches_of(data, utterances, recogniser.config.features.rate, args.batch_size)
    parts = [out / f"part.{job}.of.{args.jobs}.jsonl" for job in range(1, args.jobs + 1)]
    # The content of a part depends on the batches too.
    part_fingerprint = {**fingerprint, "batch_size": args.batch_size}
    if args.jobs == 1 or args.job is not None:
        job = args.job or 1
        if read_part(parts[job - 1], part_fingerprint) is None:
            decode_part(recogniser, data, batches[job - 1 :: args.jobs], parts[job - 1], part_fingerprint)
    if args.job is None:
        join(out, parts, utterances, recogniser.vocabulary.tokens, fingerprint, part_fingerprint)


def lm_fingerprint(path: Path | None) -> str | None:
    """Hash of a language model's configuration: it identifies the model in results."""
    if path is None:
        return None
    return run_fingerprint(saved_config(checkpoint.load(path), path))


def batches_of(
    data: Path, utterances: Utterances, rate: int, size: int, chosen: Iterable[int] | None = None
) -> list[list[Utterance]]:
    """Batches of utterances of similar lengths: of all utterances, or of those with the chosen numbers."""
    rows = range(len(utterances)) if chosen is None else sorted(chosen)
    lengths = num_samples(data, utterances, rate, rows)
    order = [utterances[rows[i]] for i in np.argsort(lengths, kind="stable")]
    return [order[i : i + size] for i in range(0, len(order), size)]


def decode_part(
    recogniser: Recogniser, data: Path, batches: list[list[Utterance]], part: Path, fingerprint: dict[str, Any]
) -> None:
    """Decode batches into a part file: a line with its fingerprint, then one line an utterance."""
    vocabulary, rate = recogniser.vocabulary, recogniser.config.features.rate
    heard = [u for batch in batches for u in batch]
    # A reference with a character that cannot be written would count as errors of the model.
    vocabulary.encode_all((u.text or "" for u in heard), lambda i: f"{data / 'text'}: {heard[i].id}")
    lines, audio, begin = [], 0.0, time.monotonic()
    with progress(None, data.name, total=sum(map(len, batches)), unit="utt") as bar:
        for batch in batches:
            waves = [read_wave(u, rate) for u in batch]
            audio += sum(map(len, waves)) / rate
            for u, hypotheses in zip(batch, recogniser(waves)):
                nbest = [
                    {"text": recogniser.text(h), "tokens": h.tokens, "score": h.score, **h.scores} for h in hypotheses
                ]
                lines.append({"id": u.id, "nbest": nbest})
            bar.update(len(batch))
    head = {"fingerprint": fingerprint, "seconds": round(time.monotonic() - begin, 2), "audio": round(audio, 2)}
    head["utterances"] = len(lines)
    atomic_io.write(part, "".join(json.dumps(line) + "\n" for line in [head, *lines]))


class Part(NamedTuple):
    """Seconds that decoding took, seconds of audio, and hypotheses by utterance, the best first."""

    seconds: float
    audio: float
    nbest: dict[str, list[dict[str, Any]]]


def read_part(path: Path, fingerprint: dict[str, Any]) -> Part | None:
    """What `decode_part` wrote, None where it is missing, damaged or of another run."""
    try:
        head, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        part = Part(head["seconds"], head["audio"], {line["id"]: line["nbest"] for line in lines})
        for hypotheses in part.nbest.values():
            _ = [hypotheses[0][key] for key in ("text", "tokens", "score")]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    whole = head.get("utterances") == len(part.nbest)
    return part if whole and head.get("fingerprint") == fingerprint else None


def join(
    out: Path,
    parts: list[Path],
    utterances: Utterances,
    tokens: list[str],
    fingerprint: dict[str, Any],
    part_fingerprint: dict[str, Any],
) -> None:
    """Join part files into the tables of all utterances. Raises UserError if a part is missing or of another run."""
    nbest: dict[str, Any] = {}
    seconds = audio = 0.0
    for path in parts:
        part = read_part(path, part_fingerprint)
        if part is None:
            raise UserError(f"{path}: this part is missing or belongs to a different run; decode it again")
        seconds, audio = seconds + part.seconds, audio + part.audio
        nbest.update(part.nbest)
    for u in utterances:
        if u.id not in nbest:
            raise UserError(f"{out}: utterance {u.id} is in none of {len(parts)} parts; decode them again")
    best = {key: hypotheses[0] for key, hypotheses in nbest.items()}
    write_table(out / "text", {key: h["text"] for key, h in best.items()})
    write_table(out / "token", {key: " ".join(tokens[i] for i in h["tokens"]) for key, h in best.items()})
    write_table(out / "token_int", {key: " ".join(map(str, h["tokens"])) for key, h in best.items()})
    write_table(out / "score", {key: f"{h['score']:.6f}" for key, h in best.items()})
    rows = [json.dumps({"id": u.id, "nbest": nbest[u.id]}) + "\n" for u in utterances]
    atomic_io.write(out / "nbest.jsonl", "".join(rows))
    write_product(out / "done.json", fingerprint, seconds=round(seconds, 2), audio=round(audio, 2))
    for path in out.glob("part.*.jsonl"):
        path.unlink()
    logger.info(f"{out}: {len(utterances)} utterances, real-time factor {seconds / audio:.3f}")


def with_tuned(options: SearchOptions, path: Path) -> tuple[SearchOptions, list[str]]:
    """The options with the weights that `irl tune` found, and the names of the data on which it found them."""
    try:
        content = json.loads(path.read_text())
        weights: dict[str, Any] = {name: float(content["options"][name]) for name in search_options.WEIGHTS}
        return dataclasses.replace(options, **weights), list(content["data"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of tuned weights; run irl tune first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of irl tune: {error!r}") from None
