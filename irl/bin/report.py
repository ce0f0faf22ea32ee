"""Table and figure of a results file: irl report RESULTS.jsonl --corpus mini --out DIR

Everything comes from the JSON lines: DIR/table.md (methods x conditions, CER with 95 % intervals, paired
tests), DIR/table.png and DIR/table.svg. With --exp and --data an utterance is shown with every method's hypothesis.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from irl.core import atomic_io
from irl.core.errors import UserError, run_command
from irl.reporting import results
from irl.reporting.table import Table, markdown, rates, select, test_sets

# With more methods bars cannot be told apart.
MOST_BARS = 5


def insert(path: Path, name: str, table: Table, note: str) -> None:
    """Renew what stands in a Markdown file between <!-- table NAME --> (or report) and <!-- end -->."""
    text = path.read_text(encoding="utf-8")
    for kind, content in (("table", rates(table)), ("report", markdown(table, note).strip())):
        mark = f"<!-- {kind} {name} -->"
        pattern = re.compile(re.escape(mark) + ".*?<!-- end -->", re.DOTALL)
        text = pattern.sub(lambda _: f"{mark}\n\n{content}\n\n<!-- end -->", text)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl report", description="Table and figure of results.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--wanted", type=Path, help="only runs listed in this file of irl plan")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="table", help="of the files in --out, without suffix")
    parser.add_argument("--insert", type=Path, nargs="*", default=[], help="Markdown files with marks for this --name")
    parser.add_argument("--note", default="", help="a sentence above the table")
    parser.add_argument("--exp", type=Path, help="directory of the runs, for an example")
    parser.add_argument("--data", type=Path, help="data directory of the example's condition")
    parser.add_argument("--condition", default="additive", help="condition of the example")
    args = parser.parse_args()
    lines = [r for r in results.read(args.results) if r["corpus"] == args.corpus]
    lines = [r for r in lines if args.methods is None or r["method"] in args.methods]
    lines = select(lines, results.read(args.wanted) if args.wanted else None)
    if not lines:
        raise UserError(f"{args.results}: no result of corpus {args.corpus}")
    from irl.reporting.figures import bars, dots, forest

    args.out.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    for name, rows in test_sets(lines).items():
        table = Table(rows)
        stem = f"{args.name}-{name}" if name else args.name
        note = f"Test set {name}. {args.note}".strip() if name else args.note
        text = markdown(table, note)
        for path in args.insert:
            insert(path, stem, table, note)
        draw = forest if len(table.methods) > MOST_BARS and "irl_batching" in table.methods else bars
        draw = draw if table.metric.averaged else dots
        draw(table, args.out / stem, f"{args.corpus}: {note}" if note else args.corpus)
        if args.exp and args.data and not texts:
            text += "\n" + table.modality.example(table, args.exp, args.data, args.condition)
        texts.append(text)
    atomic_io.write(args.out / f"{args.name}.md", "\n".join(texts))
    print("\n".join(texts))
    print(f"table: {args.out / args.name}.md   figure: {args.out / stem}.png   results: {args.results}")


if __name__ == "__main__":
    run_command(main)
