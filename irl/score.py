"""Character and word error rates: python -m irl.score REF_TEXT HYP_TEXT [--alignments FILE] [--trn PREFIX]

With --results the counts of all conditions of one run become one JSON line, from which tables are made:

    python -m irl.score --run EXP --corpus mini --method irl_loss --results FILE --conditions none=DATA_DIR ...

Errors and reference lengths are summed over utterances and divided once; a missing utterance is an error. Characters
include the spaces between words, as sclite counts them when they are written <space>.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from irl import command, results
from irl.data.kaldi import read_table
from irl.errors import UserError
from irl.tasks.edits import Edits, count_edits


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
    return sum(counts[1:], counts[0])


def summary(name: str, counts: list[Edits]) -> str:
    """One line in Kaldi's manner."""
    t = total(counts)
    low, high = results.interval([c.reference for c in counts], [c.errors for c in counts])
    return (
        f"%{name} {100 * t.errors / t.reference:.2f} [ {t.errors} / {t.reference}, {t.insertions} ins, "
        f"{t.deletions} del, {t.substitutions} sub ] 95% interval {100 * low:.2f}-{100 * high:.2f}, "
        f"{len(counts)} utterances"
    )


def alignment(reference: list[str], hypothesis: list[str]) -> tuple[str, str]:
    """Two lines of equal columns: *** where one side has nothing, substitutions in capitals."""
    from rapidfuzz.distance import Levenshtein

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


def last_evaluation(path: Path) -> dict[str, float]:
    """What the last evaluation of a run found on the dev set, by name: losses, distances, norms, ranks."""
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    last: dict[str, float] = next((line for line in reversed(lines) if any(key.startswith("dev/") for key in line)), {})
    return {key.removeprefix("dev/"): round(value, 5) for key, value in last.items() if key.startswith("dev/")}


def run_line(args: argparse.Namespace) -> dict[str, Any]:
    """One finished run as a line of results: configuration, seed, commit, versions, time, counts by condition."""
    from irl import checkpoint
    from irl.decode import file_digest
    from irl.experiment import saved_config

    state = checkpoint.load(args.run / "checkpoint.pt")
    if state["step"] != state["config"]["train"]["updates"]:
        raise UserError(f"{args.run}: at update {state['step']} of {state['config']['train']['updates']}, not finished")
    weights = file_digest(args.run / "checkpoint.pt")
    line: dict[str, Any] = {
        "corpus": args.corpus,
        "method": args.method,
        "seed": state["config"]["seed"],
        "digest": results.run_digest(saved_config(state, args.run / "checkpoint.pt")),
        "commit": state["commit"],
        "versions": state["versions"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "train_seconds": round(state["seconds"], 1),
        "updates": state["step"],
        "skipped": state["skipped"],
        "dev": last_evaluation(args.run / "metrics.jsonl"),
        "config": state["config"],
        "banks": args.banks,
        "conditions": {},
    }
    for item in args.conditions:
        name, equals, folder = item.partition("=")
        if not equals:
            raise UserError(f"--conditions: expected NAME=DATA_DIR, found {item!r}")
        out = args.run / "decode" / Path(folder).name
        if not (out / "done.json").exists():
            raise UserError(f"{out}: not decoded; run stage 5 first")
        done = json.loads((out / "done.json").read_text())
        if done["weights"] != weights:
            raise UserError(f"{out}: decoded with other weights than {args.run / 'checkpoint.pt'}; run stage 5 again")
        if line.setdefault("decode", done["options"]) != done["options"]:
            raise UserError(f"{out}: decoded with other options than the sets before it; run stage 5 again")
        scores = score(Path(folder) / "text", out / "text")
        write_alignments(out / "alignments.txt", Path(folder) / "text", out / "text")
        write_espnet(out, Path(folder), scores)
        line["conditions"][name] = {
            # Substitutions, deletions and insertions are summed; errors by utterance are what intervals are made from.
            "cer": total(scores.characters)._asdict(),
            "wer": total(scores.words)._asdict(),
            "reference": [c.reference for c in scores.characters],
            "errors": [c.errors for c in scores.characters],
            "data": done["data"],
        }
    return line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m irl.score", description="Error rates of hypotheses, or of a whole run."
    )
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument("hypothesis", type=Path, nargs="?")
    parser.add_argument("--alignments", type=Path, help="write word alignments of utterances with errors")
    parser.add_argument("--trn", help="write PREFIX.ref.trn and PREFIX.hyp.trn for sclite, characters as tokens")
    parser.add_argument("--run", type=Path, help="directory of a finished, decoded run")
    parser.add_argument("--corpus", default="")
    parser.add_argument("--method", default="")
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME=DATA_DIR")
    parser.add_argument("--banks", nargs=2, default=results.GENERATED, help="noises and rooms of the test sets")
    parser.add_argument("--results", type=Path, help="JSON lines file to append the run to")
    args = parser.parse_args()
    if args.run is not None:
        if args.results is None or not args.conditions:
            parser.error("--run needs --results and --conditions")
        line = run_line(args)
        results.append(args.results, line)
        rates = {n: 100 * total_errors(c) for n, c in line["conditions"].items()}
        print(f"{args.run}: CER % " + " ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))
        return
    if args.reference is None or args.hypothesis is None:
        parser.error("give REF_TEXT and HYP_TEXT, or --run")
    scores = score(args.reference, args.hypothesis)
    print(summary("CER", scores.characters))
    print(summary("WER", scores.words))
    if args.alignments:
        write_alignments(args.alignments, args.reference, args.hypothesis)
    if args.trn:
        for kind, table in (("ref", args.reference), ("hyp", args.hypothesis)):
            write_trn(Path(f"{args.trn}.{kind}.trn"), read_table(table))


def total_errors(condition: dict[str, Any]) -> float:
    return sum(condition["errors"]) / sum(condition["reference"])


if __name__ == "__main__":
    command.run_command(main)
