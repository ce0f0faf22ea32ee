"""Decode data directories with a checkpoint: irl decode CHECKPOINT --data DIR ... --out OUT

Writes into OUT/NAME/ for each directory, as ESPnet does, text, token, token_int and score of the best hypotheses; also
nbest.jsonl, all hypotheses with their scores by name, and done.json, which tells a second run that nothing is left.

--jobs N --job I decodes every N-th batch alone, into OUT/NAME/part.I.of.N.jsonl; the same command with --jobs N and no
--job then joins the N parts. Batches are the same for any N, and with them the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

import torch

from irl.core.errors import UserError, run_command
from irl.core.logging import log_to, logger
from irl.data.kaldi import read_data_dir
from irl.speech import search_options
from irl.speech.evaluate import batches_of, data_fingerprint, decode_part, head_of, join, lm_fingerprint, with_tuned
from irl.speech.recogniser import Recogniser
from irl.training import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl decode", description="Decode data directories.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Kaldi data directories")
    parser.add_argument("--out", type=Path, required=True)
    search_options.add_arguments(parser)
    parser.add_argument("--lm", type=Path, help="checkpoint of a character LM, for shallow fusion")
    parser.add_argument("--tuned", type=Path, help="take the weights from this file of irl tune")
    parser.add_argument("--jobs", type=int, default=1, help="number of parts")
    parser.add_argument("--job", type=int, help="decode this part alone, 1 ... jobs; without it the parts are joined")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    log_to(args.out / ("decode.log" if args.job is None else f"decode.{args.job}.log"))
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
    used = {**options.named(), "lm": lm_fingerprint(args.lm), "tuned": tuned}
    used = {key: value for key, value in used.items() if value is not None}
    weights = {
        "weights": checkpoint.file_fingerprint(args.checkpoint),
        **({"lm_weights": checkpoint.file_fingerprint(args.lm)} if args.lm else {}),
    }
    for data in args.data:
        out = args.out / data.name
        mark = {"options": used, **weights, "data": data_fingerprint(data, args.allow_pipes)}
        with contextlib.suppress(FileNotFoundError):  # another part's job may remove it too
            if mark.items() <= json.loads((out / "done.json").read_text()).items():
                logger.info(f"{out}: already decoded in this way")
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
    run_command(main)
