"""Check data: irl validate TASK PATH ..., such as irl validate speech --rate 16000 DATA_DIR ...

Kaldi data directories are read whole, and utt2num_samples is written, which later stages use instead of opening each
file. Sets of images are counted by class, and images that an earlier set of the line holds too are named. Texts are
counted in words, an <eos> at the end of each line among them.
"""

from __future__ import annotations

from irl.bin.arguments import by_task
from irl.core.errors import run_command


def main() -> None:
    parser, modality = by_task("validate", "Check data.")
    for line in modality.validate(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
