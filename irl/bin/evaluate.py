"""Evaluate a trained model under test conditions: irl evaluate CHECKPOINT --conditions NAME ... --out DIR

The options depend on the model: `irl evaluate CHECKPOINT --help` lists them. A recogniser decodes NAME=DATA_DIR, a
language model reads NAME=TEXT, and an image classifier takes names of conditions. Existing results in DIR are kept if
they come from the same weights, data and settings.
"""

from __future__ import annotations

from irl.bin.arguments import by_checkpoint
from irl.core.errors import run_command


def main() -> None:
    parser, modality = by_checkpoint("evaluate", "Evaluate a trained model under test conditions.")
    args = parser.parse_args()
    args.out = args.out or args.checkpoint.parent / "evaluate"
    modality.evaluate(args)


if __name__ == "__main__":
    run_command(main)
