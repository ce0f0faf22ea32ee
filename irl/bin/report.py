"""Table and figure of a results file: irl report RESULTS.jsonl --out DIR

All numbers come from the JSON lines. DIR/table.md has methods x conditions with 95 % intervals, and paired tests;
DIR/table.png and DIR/table.svg draw the table. With --exp and --data the report shows one example with the output of
every method. Labels of methods and tested pairs come from the recipe's conf/table.yaml. Without RESULTS.jsonl, the
command regenerates every table and figure that has a note in conf/table.yaml.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl.core import atomic_io
from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.reporting import results
from irl.reporting.report import lines_modality, read_lines, renew, write_reports
from irl.reporting.table import select
from irl.reporting.table_config import DEFAULT, TableConfig, read_table_config


def arguments() -> argparse.Namespace:
    parser = Parser(prog="irl report", description="Make table and figure of results.")
    parser.add_argument("results", type=Path, nargs="?", help="JSON lines; without it, every table with a note")
    parser.add_argument("--table", type=Path, help=f"labels, tests and notes; default: {DEFAULT}, if it exists")
    parser.add_argument("--corpus", help="only results on this corpus; required if there are several")
    parser.add_argument("--methods", nargs="+", help="only these methods")
    parser.add_argument("--wanted", type=Path, help="only runs in this file, written by irl plan")
    parser.add_argument("--out", type=Path, help="directory to write into")
    parser.add_argument("--name", default="table", help="name of the files in --out, without suffix")
    parser.add_argument("--insert", type=Path, nargs="*", default=[], help="Markdown files with marks for --name")
    parser.add_argument("--note", default="", help="a sentence above the table")
    parser.add_argument("--exp", type=Path, help="directory of the runs, for an example")
    parser.add_argument("--data", type=Path, help="data directory of the example's condition")
    parser.add_argument("--condition", help="condition of the example; default: the first noisy one")
    args = parser.parse_args()
    if args.results is not None and args.out is None:
        parser.error("RESULTS needs --out")
    return args


def report(args: argparse.Namespace, config: TableConfig) -> None:
    lines = read_lines(args.results, args.corpus)
    modality = lines_modality(lines, args.results)
    lines = [line for line in lines if args.methods is None or line["method"] in args.methods]
    lines = select(lines, modality, config, results.read(args.wanted, results.RUN) if args.wanted else None)
    if not lines:
        raise UserError(f"{args.results}: no result of the runs that --methods and --wanted ask for")
    reports = list(write_reports(lines, modality, config, args.out, args.name, args.note, args.insert))
    texts = [report.text for report in reports]
    if args.exp and args.data:
        table = reports[0].table
        example = modality.example(table, args.exp, args.data, args.condition or [*table.noisy, *table.conditions][0])
        texts[0] += f"\n{example}" if example else ""
    atomic_io.write(args.out / f"{args.name}.md", "\n".join(texts))
    print("\n".join(texts))
    print(f"table: {args.out / args.name}.md   figure: {reports[-1].figure}   results: {args.results}")


def main() -> None:
    args = arguments()
    config = read_table_config(args.table)
    if args.results is not None:
        report(args, config)
        return
    if not config.notes:
        raise UserError(f"{args.table or DEFAULT}: no notes: expected the names of results files, or RESULTS.jsonl")
    # A recipe's conf/table.yaml lies two levels below the recipe.
    for renewed in renew(config, (args.table or DEFAULT).parent.parent):
        print(f"{renewed.figure}: {len(renewed.table.lines)} runs")


if __name__ == "__main__":
    run_command(main)
