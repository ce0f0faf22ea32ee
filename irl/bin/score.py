"""Append a finished, evaluated run to a file of results: irl score RUN --conditions NAME ... --results FILE

The counts of all conditions become one JSON line with configuration, seed, commit and versions; `irl report` makes
tables of these lines. `irl score_text REF HYP` compares two transcripts.
"""

from __future__ import annotations

from pathlib import Path

from irl.bin.arguments import first_word, modality_of
from irl.core.arguments import Parser
from irl.core.errors import run_command
from irl.reporting import results
from irl.reporting.evaluation import run_line, total_rate


def main() -> None:
    description = "Append a finished, evaluated run to a file of results."
    modality = modality_of(Path(first_word("score", "run", description)) / "checkpoint.pt")
    parser = Parser(prog="irl score", description=description)
    parser.add_argument("run", type=Path, help="directory of a finished, evaluated run")
    parser.add_argument("--conditions", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines file to append the run to")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--method", required=True)
    modality.add_arguments("score", parser)
    args = parser.parse_args()
    line = run_line(args.run, args.corpus, args.method, modality.read_evaluation(args.run, args))
    results.append(args.results, line, modality)
    rates = {name: modality.metric.show(total_rate(c)) for name, c in line["conditions"].items()}
    print(f"{args.run}: {modality.metric.title} " + " ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))


if __name__ == "__main__":
    run_command(main)
