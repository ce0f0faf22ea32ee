"""Check data: irl validate TASK PATH ..., such as irl validate speech --rate 16000 DATA_DIR ...

Kaldi data directories are read completely. The file utt2num_samples is written, so that later stages need not open each
recording. Images are counted by class, and images that occur in an earlier set of the command line are reported. Texts
are counted in words, including an <eos> at the end of each line.
"""

from __future__ import annotations

from pathlib import Path

from irl.bin.arguments import first_word
from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.training.registry import MODALITIES, modality


def main() -> None:
    found = modality(first_word("validate", "task", "Check data."), "command line")
    parser = Parser(prog="irl validate", description="Check data.")
    parser.add_argument("task", choices=MODALITIES)
    parser.add_argument("paths", type=Path, nargs="+", help="data of that task")
    found.add_arguments("validate", parser)
    for line in found.validate(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
