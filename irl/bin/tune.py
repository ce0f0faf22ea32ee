"""Find decoding weights on dev data: irl tune CHECKPOINT ... --data DEV_DIR ... --out FILE [--lm CHECKPOINT]

Every combination of the given weights is tried on every recogniser and data directory. The combination with the fewest
character errors in total is written to FILE, which `irl evaluate --tuned` reads. All recognisers share one choice, so
that methods are compared under the same search. An existing FILE is kept, so that a table filled over several sessions
has one choice; if it was made with different settings, this is an error. Never give it test data.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from irl.core import atomic_io
from irl.core.arguments import Parser, positive
from irl.core.errors import UserError, run_command
from irl.core.fingerprint import stable_hash
from irl.core.logging import log_to, logger, progress
from irl.data.kaldi import read_data_dir, read_wave
from irl.reporting.results import check_wanted
from irl.speech import search_options
from irl.speech.evaluate import batches_of, lm_fingerprint, with_tuned
from irl.speech.fingerprint import of_test_set
from irl.speech.recogniser import Recogniser
from irl.speech.scoring import count_edits
from irl.speech.search_options import SearchOptions

# The default grid: around the weights of recipes for character models, with room to both sides.
GRID = {"ctc_weight": (0.3, 0.5, 0.7, 0.9), "lm_weight": (0.0, 0.3, 0.6, 1.0, 1.5), "length_bonus": (0.0, 0.5, 1.0)}


def errors(
    checkpoint: Path, lm: Path | None, data: Path, grid: list[SearchOptions], size: int, most: int, pipes: bool
) -> tuple[list[int], int]:
    """Character errors with each of the options, and the number of reference characters. Batches are encoded once."""
    torch.set_num_threads(1)
    recogniser = Recogniser(checkpoint, lm=lm)
    if recogniser.updates < recogniser.config.train.updates:
        raise UserError(f"{checkpoint}: training is not finished, so weights are not to be tuned on it")
    # If there are too many utterances, take those with the smallest hash, the same for every recogniser.
    utterances = read_data_dir(data, allow_pipes=pipes)
    chosen = sorted(range(len(utterances)), key=lambda i: stable_hash(utterances.ids[i]))[:most]
    rate = recogniser.config.features.rate
    found, reference = [0] * len(grid), 0
    with progress(None, f"{checkpoint.parent.name}, {data.name}", total=len(chosen), unit="utt") as bar:
        for batch in batches_of(data, utterances, rate, size, chosen):
            encoded = recogniser.encode([read_wave(u, rate) for u in batch])
            reference += sum(len(u.text or "") for u in batch)
            for i, options in enumerate(grid):
                best = [recogniser.text(hypotheses[0]) for hypotheses in recogniser.search(encoded, options)]
                found[i] += sum(
                    count_edits(u.text or "", " ".join(text.split())).errors for u, text in zip(batch, best)
                )
            bar.update(len(batch))
    return found, reference


def main() -> None:
    parser = Parser(prog="irl tune", description="Find decoding weights on dev data.")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data directories, none of them a test set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lm", type=Path, help="checkpoint of a character LM; without it lm_weight is 0")
    search_options.add_arguments(parser, leave_out=(*search_options.WEIGHTS, "search", "nbest"))
    for name, option in zip(GRID, ("--ctc-weights", "--lm-weights", "--length-bonuses")):
        parser.add_argument(option, type=float, nargs="+", default=GRID[name], help="values to try")
    parser.add_argument(
        "--utterances", type=positive, default=100, help="maximum number of utterances of each directory"
    )
    parser.add_argument("--nj", type=positive, default=1, help="jobs at once")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    parser.add_argument("--wanted", type=Path, help="file of irl plan: refuse weights that are of none of its runs")
    args = parser.parse_args()
    log_to()
    base = search_options.from_arguments(args)
    lm_weights = args.lm_weights if args.lm else (0.0,)
    try:
        grid = [
            dataclasses.replace(base, ctc_weight=ctc, lm_weight=lm, length_bonus=bonus)
            for ctc, lm, bonus in itertools.product(args.ctc_weights, lm_weights, args.length_bonuses)
        ]
    except ValueError as error:
        parser.error(str(error))
    names = [path.name for path in args.data]
    wanted = {"grid": [options.named() for options in grid], "lm": lm_fingerprint(args.lm), "data": names}
    wanted["dev_data"] = [of_test_set(path) for path in args.data]
    if args.out.exists():
        _, _ = with_tuned(base, args.out)
        there = json.loads(args.out.read_text())
        if "dev_data" not in there:  # tuned by an earlier version
            wanted.pop("dev_data")
        for key, value in wanted.items():
            if there.get(key) != value:
                raise UserError(f"{args.out}: was tuned with a different {key}; remove it and the results that name it")
        logger.info(f"{args.out}: already tuned in this way")
        return
    for checkpoint in args.checkpoints:
        check_wanted(checkpoint, args.wanted)
    total, reference = [0] * len(grid), 0
    with ProcessPoolExecutor(args.nj, mp_context=multiprocessing.get_context("spawn")) as pool:
        settings = (grid, args.batch_size, args.utterances, args.allow_pipes)
        jobs = [pool.submit(errors, c, args.lm, data, *settings) for c in args.checkpoints for data in args.data]
        try:
            for found, count in (job.result() for job in jobs):
                total, reference = [a + b for a, b in zip(total, found)], reference + count
        finally:
            pool.shutdown(cancel_futures=True)
    # The first of several equal minima has the smallest weights.
    best = grid[min(range(len(grid)), key=lambda i: total[i])]
    runs = [path.parent.name for path in args.checkpoints]
    content = {**wanted, "runs": runs, "errors": total, "reference": reference, "options": dataclasses.asdict(best)}
    atomic_io.write(args.out, json.dumps(content) + "\n")
    logger.info(
        f"{args.out}: CER {100 * min(total) / reference:.2f} % with {best.named()}, "
        f"the best of {len(grid)} (worst {100 * max(total) / reference:.2f} %) on {', '.join(names)}"
    )


if __name__ == "__main__":
    run_command(main)
