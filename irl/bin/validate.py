"""Check data: irl validate TASK PATH ..., such as irl validate speech --rate 16000 DATA_DIR ...

Kaldi data directories are read completely. The file utt2num_samples is written, so that later stages need not open each
recording. Images are counted by class, and images that occur in an earlier set of the command line are reported. Texts
are counted in words, including an <eos> at the end of each line.
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
