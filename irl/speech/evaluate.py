"""Decode data directories with a trained recogniser."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from irl.core import atomic_io
from irl.core.errors import UserError
from irl.core.logging import logger, progress
from irl.data.kaldi import Utterance, num_samples, read_data_dir, read_wave, write_table
from irl.reporting import results
from irl.speech import search_options
from irl.speech.recogniser import Recogniser
from irl.speech.search_options import SearchOptions
from irl.training import checkpoint
from irl.training.registry import saved_config


def data_fingerprint(path: Path, pipes: bool) -> str:
    """Of ids, texts and audio; audio that is no plain file enters by its entry in wav.scp."""
    hashed = hashlib.blake2b(digest_size=8)
    for u in read_data_dir(path, allow_pipes=pipes):
        path = Path(u.wav)
        hashed.update(f"{u.id} {u.text} {u.start} {u.end}\n".encode())
        hashed.update(path.read_bytes() if path.is_file() else u.wav.encode())
    return hashed.hexdigest()


def lm_fingerprint(path: Path | None) -> str | None:
    """Of a language model's configuration, as results name it."""
    return None if path is None else results.run_fingerprint(saved_config(checkpoint.load(path), path))


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
    with progress(None, data.name, total=sum(map(len, batches)), unit="utt") as bar:
        for batch in batches:
            waves = [read_wave(u, rate) for u in batch]
            audio += sum(map(len, waves)) / rate
            for u, found in zip(batch, recogniser(waves)):
                nbest = [{"text": recogniser.text(h), "tokens": h.tokens, "score": h.score, **h.scores} for h in found]
                lines.append({"id": u.id, "nbest": nbest})
            bar.update(len(batch))
    head = {"mark": mark, "seconds": round(time.monotonic() - begin, 2), "audio": round(audio, 2)}
    atomic_io.write(part, "".join(json.dumps(line) + "\n" for line in [head, *lines]))


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
    atomic_io.write(
        out / "nbest.jsonl", "".join(json.dumps({"id": u.id, "nbest": found[u.id]}) + "\n" for u in utterances)
    )
    done = {**mark, "seconds": round(seconds, 2), "audio": round(audio, 2)}
    atomic_io.write(out / "done.json", json.dumps(done) + "\n")
    for path in out.glob("part.*.jsonl"):
        path.unlink()
    logger.info(f"{out}: {len(utterances)} utterances, real-time factor {seconds / audio:.3f}")


def with_tuned(options: SearchOptions, path: Path) -> tuple[SearchOptions, list[str]]:
    """The options with the weights that `irl tune` found, and the names of the data that it found them on."""
    try:
        content = json.loads(path.read_text())
        weights: dict[str, Any] = {name: float(content["options"][name]) for name in search_options.WEIGHTS}
        return dataclasses.replace(options, **weights), list(content["data"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of tuned weights; run irl tune first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of irl tune: {error!r}") from None
