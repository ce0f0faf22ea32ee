"""Evaluate a trained model under test conditions: irl evaluate CHECKPOINT --conditions NAME ... --out DIR

The options depend on the model: `irl evaluate CHECKPOINT --help` lists them. A recogniser decodes NAME=DATA_DIR, a
language model reads NAME=TEXT, and an image classifier takes names of conditions. Existing results in DIR are kept if
they come from the same weights, data and settings.
"""

from __future__ import annotations

from pathlib import Path

from irl.bin.arguments import first_word, modality_of
from irl.core.arguments import Parser, positive
from irl.core.errors import run_command
from irl.core.machine import set_threads
from irl.reporting.results import check_wanted


def main() -> None:
    description = "Evaluate a trained model under test conditions."
    modality = modality_of(Path(first_word("evaluate", "checkpoint", description)))
    parser = Parser(prog="irl evaluate", description=description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--conditions", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--out", type=Path, help="directory to write into; default: evaluate, beside the checkpoint")
    parser.add_argument("--threads", type=positive, default=1, help="threads of torch")
    parser.add_argument("--wanted", type=Path, help="file of irl plan: refuse weights that are of none of its runs")
    modality.add_arguments("evaluate", parser)
    args = parser.parse_args()
    check_wanted(args.checkpoint, args.wanted)
    args.out = args.out or args.checkpoint.parent / "evaluate"
    set_threads(args.threads, "--threads")
    modality.evaluate(args)


if __name__ == "__main__":
    run_command(main)
