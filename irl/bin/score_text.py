"""Error rates of transcripts: irl score_text REF_TEXT HYP_TEXT [--alignments FILE] [--trn PREFIX]"""

from __future__ import annotations

from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.data.kaldi import read_table
from irl.speech.scoring import score, summary, write_alignments, write_trn


def main() -> None:
    parser = Parser(prog="irl score_text", description="Error rates of a table of hypotheses.")
    parser.add_argument("reference", type=Path)
    parser.add_argument("hypothesis", type=Path)
    parser.add_argument("--alignments", type=Path, help="write word alignments of utterances with errors")
    parser.add_argument("--trn", help="write PREFIX.ref.trn and PREFIX.hyp.trn for sclite, characters as tokens")
    args = parser.parse_args()
    scores = score(args.reference, args.hypothesis)
    for name, counts in (("CER", scores.characters), ("WER", scores.words)):
        print(summary(name, counts))
    if args.alignments:
        write_alignments(args.alignments, args.reference, args.hypothesis)
    if args.trn:
        for kind, table in (("ref", args.reference), ("hyp", args.hypothesis)):
            write_trn(Path(f"{args.trn}.{kind}.trn"), read_table(table))


if __name__ == "__main__":
    run_command(main)
