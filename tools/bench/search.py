"""Joint attention/CTC beam search, several utterances at once, beside ESPnet's BatchBeamSearch one at a time.

    python tools/bench/search.py CHECKPOINT --data DIR     such as egs/wsj/exp/mini/irl_loss.1/checkpoint.pt
                                                           and egs/wsj/data/mini/noisy/test_additive

Both search over the same model with the same scorers and options; their best hypotheses are compared first.
"""

from __future__ import annotations

import logging
from pathlib import Path

from harness import Report, alternate, arguments, median_interval, parse

from irl.core.errors import run_command
from irl.data.kaldi import read_data_dir, read_wave
from irl.speech.recogniser import Recogniser
from irl.speech.search_options import SearchOptions


def main() -> None:
    logging.disable(logging.WARNING)
    parser = arguments(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="Kaldi data directory")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--beam", type=int, default=10)
    args = parse(parser)
    report = Report("Joint beam search", args, ("espnet",))
    ours, espnet = (Recogniser(args.checkpoint, SearchOptions(search, args.beam)) for search in ("joint", "espnet"))
    waves = [read_wave(u, ours.config.features.rate) for u in read_data_dir(args.data)[: args.utterances]]
    audio = sum(map(len, waves)) / ours.config.features.rate

    found, expected = ours(waves), espnet(waves)
    equal = sum(a[0].tokens == b[0].tokens for a, b in zip(found, expected))
    gap = max(abs(a[0].score - b[0].score) for a, b in zip(found, expected))
    model = f"{args.checkpoint.parent.parent.name}/{args.checkpoint.parent.name}"
    report.say(
        f"Model {model}, data {args.data.name}: {len(waves)} utterances, {audio:.0f} s, beam {args.beam}. "
        f"{equal} of {len(waves)} best hypotheses are equal, with scores within {gap:.1g}. Times include "
        "features and encoder."
    )
    steps = {
        f"irl, {len(waves)} at once": lambda: ours(waves),
        "irl, one by one": lambda: [ours([wave]) for wave in waves],
        "ESPnet BatchBeamSearch": lambda: [espnet([wave]) for wave in waves],
    }
    seconds = alternate(steps, args.rounds, warmup=1, label="searches")
    report.table(seconds, next(iter(steps)), len(waves), "utterances/s")
    factors = ", ".join(f"{n} {median_interval(s / audio).median:.4f}" for n, s in seconds.items())
    report.say(f"Real-time factor: {factors}.")
    report.close()


if __name__ == "__main__":
    run_command(main)
