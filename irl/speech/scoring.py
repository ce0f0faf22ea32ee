"""Counting the errors of transcripts, and the files in which people and other programs read them.

Errors and reference lengths are summed over utterances and divided once; a missing utterance is an error. Characters
include the spaces between words, as sclite counts them when they are written <space>.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from irl.core.arguments import positive
from irl.core.errors import UserError
from irl.data.kaldi import read_table
from irl.reporting.evaluation import Condition, check_data, collect, evaluated
from irl.reporting.statistics import interval
from irl.speech.conditions import GENERATED, SOURCES
from irl.speech.fingerprint import data_fingerprint, of_test_set
from irl.speech.search_options import decoding
from irl.training.modality import Evaluation


class Scores(NamedTuple):
    """Counts of each utterance, in sorted order of ids."""

    ids: list[str]
    characters: list[Edits]
    words: list[Edits]


def score(reference: Path, hypothesis: Path) -> Scores:
    """Counts of a hypothesis table against a reference table. Raises UserError if their utterances differ."""
    references, hypotheses = read_table(reference), read_table(hypothesis)
    for key in references.keys() ^ hypotheses.keys():
        have, lack = (reference, hypothesis) if key in references else (hypothesis, reference)
        raise UserError(f"{lack}: utterance {key} is missing, {have} has it")
    for key, text in references.items():
        if not text:
            raise UserError(f"{reference}: {key} has no text")
    pairs = {key: (" ".join(references[key].split()), " ".join(hypotheses[key].split())) for key in references}
    characters = [count_edits(r, h) for r, h in pairs.values()]
    words = [count_edits(r.split(), h.split()) for r, h in pairs.values()]
    return Scores(list(pairs), characters, words)


def total(counts: list[Edits]) -> Edits:
    return Edits(*map(sum, zip(*counts)))


def alignment(reference: list[str], hypothesis: list[str]) -> tuple[str, str]:
    """Two lines of equal columns: *** where one side has nothing, substitutions in capitals."""
    top, bottom = [], []
    for op in Levenshtein.opcodes(reference, hypothesis):
        a, b = reference[op.src_start : op.src_end], hypothesis[op.dest_start : op.dest_end]
        for i in range(max(len(a), len(b))):
            x, y = (a[i] if i < len(a) else ""), (b[i] if i < len(b) else "")
            if op.tag != "equal":
                x, y = x.upper(), y.upper()
            x, y = x or "*" * len(y), y or "*" * len(x)
            width = max(len(x), len(y))
            top.append(x.ljust(width))
            bottom.append(y.ljust(width))
    return " ".join(top), " ".join(bottom)


def write_alignments(path: Path, reference: Path, hypothesis: Path) -> None:
    """Word alignments of every utterance with errors, for people to read."""
    references, hypotheses = read_table(reference), read_table(hypothesis)
    with open(path, "w", encoding="utf-8") as file:
        for key in references:
            r, h = references[key].split(), hypotheses[key].split()
            if r != h:
                top, bottom = alignment(r, h)
                file.write(f"{key}\n  ref {top}\n  hyp {bottom}\n")


def tokens_of(text: str, unit: str) -> list[str]:
    """The tokens that sclite is given: characters with spaces written <space> ("cer"), or words ("wer")."""
    words = text.split()
    return words if unit == "wer" else ["<space>" if c == " " else c for c in " ".join(words)]


def write_trn(path: Path, table: Mapping[str, str], unit: str = "cer", speakers: Mapping[str, str] = {}) -> None:
    """In sclite's trn format; with speakers utterances are named SPEAKER-UTTERANCE, as in ESPnet."""
    with open(path, "w", encoding="utf-8") as file:
        for key, text in table.items():
            name = f"{speakers[key]}-{key}" if speakers else key
            file.write(f"{' '.join(tokens_of(text, unit))} ({name})\n")


def write_result(path: Path, ids: list[str], counts: list[Edits], speakers: Mapping[str, str]) -> None:
    """Rates by speaker and in all as sclite's summary shows them, which ESPnet's show_asr_result.sh reads."""
    by_speaker: dict[str, list[Edits]] = {}
    for key, edits in zip(ids, counts):
        by_speaker.setdefault(speakers[key], []).append(edits)
    lines = ["| SPKR | # Snt # Wrd | Corr Sub Del Ins Err S.Err |"]
    for name, rows in [*sorted(by_speaker.items()), ("Sum/Avg", counts)]:
        t = total(rows)
        parts = (t.reference - t.substitutions - t.deletions, t.substitutions, t.deletions, t.insertions, t.errors)
        rates = " ".join(f"{100 * part / t.reference:.1f}" for part in parts)
        wrong = 100 * sum(edits.errors > 0 for edits in rows) / len(rows)
        lines.append(f"| {name} | {len(rows)} {t.reference} | {rates} {wrong:.1f} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_espnet(out: Path, data: Path, scores: Scores) -> None:
    """OUT/score_cer and OUT/score_wer with ref.trn, hyp.trn and result.txt, as ESPnet leaves them."""
    speakers = read_table(data / "utt2spk")
    for unit, counts in (("cer", scores.characters), ("wer", scores.words)):
        folder = out / f"score_{unit}"
        folder.mkdir(exist_ok=True)
        write_trn(folder / "ref.trn", read_table(data / "text"), unit, speakers)
        write_trn(folder / "hyp.trn", read_table(out / "text"), unit, speakers)
        write_result(folder / "result.txt", scores.ids, counts, speakers)


class Edits(NamedTuple):
    """Counts of one utterance or of many: they add up, and are divided only at the end."""

    reference: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Least edits from reference to hypothesis: strings count characters, spaces too; lists of words count words."""
    edits = Levenshtein.editops(reference, hypothesis)
    substitutions = [tag for tag, _, _ in edits.as_list()].count("replace")
    # Deletions and insertions follow from their sum and their difference: counting every kind would cost more.
    rest = len(edits) - substitutions
    deletions = (rest + len(reference) - len(hypothesis)) // 2
    return Edits(len(reference), substitutions, deletions, rest - deletions)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `irl score`."""
    parser.add_argument("--banks", nargs="+", default=[GENERATED] * 2, help="noises and rooms of the test sets")
    parser.add_argument("--test-copies", type=positive, default=1, help="noisy copies of each test utterance")


def same_evaluation(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """By the search, and by the noises, the rooms and the number of copies of the test sets."""
    made = [(line.get("banks", [GENERATED] * 2), line.get("test_copies", 1)) for line in (a, b)]
    return decoding(a["decode"]) == decoding(b["decode"]) and made[0] == made[1]


def sources(data: Path) -> dict[str, str]:
    """The test utterance of each noisy copy; empty where every utterance is heard once."""
    return read_table(data / SOURCES) if (data / SOURCES).exists() else {}


def by_source(data: Path, scores: Scores) -> dict[str, Edits]:
    """Character counts of each test utterance, sorted, summed over its noisy copies: copies of one utterance are
    no independent samples."""
    source_of = sources(data)
    grouped: dict[str, list[Edits]] = {}
    for key, edits in zip(scores.ids, scores.characters):
        grouped.setdefault(source_of.get(key, key), []).append(edits)
    return {name: total(grouped[name]) for name in sorted(grouped, key=str.encode)}


def read_evaluation(run: Path, args: argparse.Namespace) -> Evaluation:
    """Counts of each NAME=DATA_DIR of args.conditions, decoded in RUN/evaluate; alignments are written there too."""

    def conditions() -> Iterator[Condition]:
        for item in args.conditions:
            name, equals, folder = item.partition("=")
            if not equals:
                raise UserError(f"--conditions: expected NAME=DATA_DIR, found {item!r}")
            out, reference = run / "evaluate" / Path(folder).name, Path(folder) / "text"
            made = evaluated(out / "done.json")["fingerprint"]
            check_data(out, made, of_test_set(Path(folder)))
            scores = score(reference, out / "text")
            write_alignments(out / "alignments.txt", reference, out / "text")
            write_espnet(out, Path(folder), scores)
            counts = by_source(Path(folder), scores).values()
            yield name, made, {
                # Edits are summed; the errors of each utterance are what intervals are made from.
                "cer": total(scores.characters)._asdict(),
                "wer": total(scores.words)._asdict(),
                "reference": [c.reference for c in counts],
                "errors": [c.errors for c in counts],
                "data": made["data"],
            }

    copies = {"test_copies": args.test_copies} if args.test_copies > 1 else {}
    found = list(conditions())
    lm = {"lm_data": made["lm_data"] for _, made, _ in found if "lm_data" in made}
    return collect(run, found, banks=args.banks, **copies, **lm)


def example(table: Any, exp: Path, data: Path, condition: str) -> str:
    """The utterance on which the methods of a table differ most under a condition, with every hypothesis."""
    seed = min(table.seeds[table.methods[0]])
    texts = {m: exp / f"{m}.{seed}" / "evaluate" / data.name / "text" for m in table.methods}
    now = data_fingerprint(data) if data.is_dir() and condition in table.conditions else ""
    lines = {line["method"]: line for line in table.lines if line["seed"] == seed and now}
    methods = [
        m
        for m in table.methods
        if m in lines and _is_of(texts[m], lines[m].get("weights", ""), now, lines[m]["conditions"][condition])
    ]
    if not methods:
        return f"No example: the hypotheses of these runs are not in {exp}.\n"
    errors = np.array([lines[m]["conditions"][condition]["errors"] for m in methods], float)
    index = int((errors[0] - errors[-1]).argmax())
    references = read_table(data / "text")
    source_of = sources(data)
    tested = sorted({source_of.get(key, key) for key in references}, key=str.encode)
    key = next(key for key in references if source_of.get(key, key) == tested[index])
    rows = [f"An example, utterance {key} under {condition}: {read_table(data / 'wav.scp')[key]}", ""]
    rows.append(f"    {'reference':13s} {references[key]}")
    rows += [f"    {table.label(method):13s} {read_table(texts[method])[key]}" for method in methods]
    return "\n".join(rows) + "\n"


def _is_of(text: Path, weights: str, data: str, condition: Mapping[str, Any]) -> bool:
    """Whether the hypotheses in OUT/text are those of a line's weights, on these data."""
    done = text.with_name("done.json")
    made = json.loads(done.read_text())["fingerprint"] if done.exists() else {}
    return text.exists() and made["weights"] == weights and made["data"] == data == condition.get("data")


def summary(name: str, counts: list[Edits]) -> str:
    """One line in Kaldi's manner."""
    t = total(counts)
    bounds = interval([c.reference for c in counts], [c.errors for c in counts])
    shown = f"95% interval {100 * bounds[0]:.2f}-{100 * bounds[1]:.2f}, " if bounds else ""
    return (
        f"%{name} {100 * t.errors / t.reference:.2f} [ {t.errors} / {t.reference}, {t.insertions} ins, "
        f"{t.deletions} del, {t.substitutions} sub ] {shown}{len(counts)} utterances"
    )
