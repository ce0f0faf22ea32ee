"""The tables and figures of a results file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from irl.core.errors import UserError
from irl.reporting import results
from irl.reporting.markdown import insert, page
from irl.reporting.table import Table, by_test_set, select
from irl.reporting.table_config import TableConfig
from irl.training.modality import Modality
from irl.training.registry import modality as modality_of


class Report(NamedTuple):
    """The table of one test set: text, a Markdown page; figure, the path of the PNG."""

    table: Table
    text: str
    figure: Path


def read_lines(path: Path, corpus: str | None = None) -> list[dict[str, Any]]:
    """The lines of a results file on one corpus; without a name, on the only one there is."""
    lines = results.read(path, results.SHOWN)
    corpora = list(dict.fromkeys(line["corpus"] for line in lines))
    if corpus is None and len(corpora) > 1:
        raise UserError(f"{path}: --corpus: expected one of {', '.join(corpora)}")
    lines = [line for line in lines if corpus in (None, line["corpus"])]
    if not lines:
        raise UserError(f"{path}: no result" + (f" of corpus {corpus}" if corpus else ""))
    return lines


def lines_modality(lines: Sequence[dict[str, Any]], path: Path) -> Modality:
    """The modality of the runs, which their configurations name."""
    return modality_of(lines[0]["config"].get("task"), str(path))


def write_reports(
    lines: Sequence[dict[str, Any]],
    modality: Modality,
    config: TableConfig,
    folder: Path,
    name: str,
    note: str = "",
    files: Sequence[Path] = (),
) -> Iterator[Report]:
    """A report for each test set: FOLDER/NAME.png and .svg, or NAME-SET where there are several sets. Its marks in
    Markdown files are renewed. lines: of `select`."""
    from irl.reporting.figures import draw

    folder.mkdir(parents=True, exist_ok=True)
    for test_set, rows in by_test_set(lines).items():
        table = Table(rows, modality, config)
        stem = f"{name}-{test_set}" if test_set else name
        sentence = f"Test set {test_set}. {note}".strip() if test_set else note
        for path in files:
            insert(path, stem, table, sentence)
        corpus = rows[0]["corpus"]
        draw(table, folder / stem, f"{corpus}: {sentence}" if sentence else corpus)
        yield Report(table, page(table, sentence), folder / f"{stem}.png")


def renew(config: TableConfig, recipe: Path) -> Iterator[Report]:
    """Renew the tables and figures of all results files of a recipe that its configuration has a note for."""
    from irl.reporting.figures import differences

    for name, note in config.notes.items():
        path = recipe / "results" / f"{name}.jsonl"
        lines = read_lines(path)
        modality = lines_modality(lines, path)
        files = [recipe / file for file in config.insert]
        chosen = select(lines, modality, config)
        for report in write_reports(chosen, modality, config, path.parent, config.prefix + name, note, files):
            if name in config.differences:
                figure = report.figure.with_name(f"{report.figure.stem}-differences")
                differences(report.table, figure, f"{chosen[0]['corpus']}: {note}")
            yield report
