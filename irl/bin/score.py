"""Error rates: irl score REF_TEXT HYP_TEXT [--alignments FILE] [--trn PREFIX] of transcripts.

With --results the counts of all conditions of one run become one JSON line, from which tables are made:

    irl score --run EXP --corpus mini --method irl_loss --results FILE --conditions none=DATA_DIR ...

of a recogniser, with the test sets that `irl decode` decoded, or, with the names of conditions alone, of a classifier
of images that `irl evaluate` evaluated on --data, or of a language model and the texts of `irl perplexity`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from irl.core.errors import UserError, run_command
from irl.data.kaldi import read_table
from irl.reporting import results
from irl.reporting.statistics import interval
from irl.reporting.table import METRICS, in_units
from irl.speech.scoring import Edits, score, total, write_alignments, write_espnet, write_trn
from irl.training import checkpoint
from irl.training.registry import saved_config


def summary(name: str, counts: list[Edits]) -> str:
    """One line in Kaldi's manner."""
    t = total(counts)
    low, high = interval([c.reference for c in counts], [c.errors for c in counts])
    return (
        f"%{name} {100 * t.errors / t.reference:.2f} [ {t.errors} / {t.reference}, {t.insertions} ins, "
        f"{t.deletions} del, {t.substitutions} sub ] 95% interval {100 * low:.2f}-{100 * high:.2f}, "
        f"{len(counts)} utterances"
    )


def last_evaluation(path: Path) -> dict[str, float]:
    """What the last evaluation of a run found on the dev set, by name: losses, distances, norms, ranks."""
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    last: dict[str, float] = next((line for line in reversed(lines) if any(key.startswith("dev/") for key in line)), {})
    return {key.removeprefix("dev/"): round(value, 5) for key, value in last.items() if key.startswith("dev/")}


def run_line(args: argparse.Namespace) -> dict[str, Any]:
    """One finished run as a line of results: configuration, seed, commit, versions, time, counts by condition."""
    path = args.run / "checkpoint.pt"
    state = checkpoint.load(path)
    if state["step"] != state["config"]["train"]["updates"]:
        raise UserError(f"{args.run}: at update {state['step']} of {state['config']['train']['updates']}, not finished")
    if state["config"]["task"] == "vision" and args.data is None:
        raise UserError(f"{args.run}: a run of a classifier needs --data, the test set that it was evaluated on")
    weights = checkpoint.file_fingerprint(path)
    line: dict[str, Any] = {
        "corpus": args.corpus,
        "method": args.method,
        "seed": state["config"]["seed"],
        "digest": results.run_fingerprint(saved_config(state, path)),
        "commit": state["commit"],
        "versions": state["versions"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "train_seconds": round(state["seconds"], 1),
        "updates": state["step"],
        "skipped": state["skipped"],
        "dev": last_evaluation(args.run / "metrics.jsonl"),
        "config": state["config"],
        "banks": args.banks,
        # Of the training set, where the task tells; of the checkpoint.
        **({"train_data": state["train_data"]} if "train_data" in state else {}),
        "weights": weights,
        "conditions": {},
    }
    for item in args.conditions:
        task = state["config"]["task"]
        if task == "speech":
            name, done, counts = transcribed(args.run, item)
        else:
            folder = Path("perplexity") if task == "language" else Path("evaluate") / args.data.stem
            name, done, counts = evaluated(args.run / folder / f"{item}.json")
        line["conditions"][name] = counts
        if done["weights"] != weights:
            raise UserError(f"{args.run}: {name}: made with other weights than {path}; run stage 5 again")
        if line.setdefault("decode", done["options"]) != done["options"]:
            raise UserError(f"{args.run}: {name}: made with other options than the sets before it; run stage 5 again")
    return line


def transcribed(run: Path, item: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Of NAME=DATA_DIR the name, what `irl decode` noted of how it decoded, and the counts; alignments are written."""
    name, equals, folder = item.partition("=")
    if not equals:
        raise UserError(f"--conditions: expected NAME=DATA_DIR, found {item!r}")
    out = run / "decode" / Path(folder).name
    if not (out / "done.json").exists():
        raise UserError(f"{out}: not decoded; run stage 5 first")
    done = json.loads((out / "done.json").read_text())
    scores = score(Path(folder) / "text", out / "text")
    write_alignments(out / "alignments.txt", Path(folder) / "text", out / "text")
    write_espnet(out, Path(folder), scores)
    return (
        name,
        done,
        {
            # Substitutions, deletions and insertions are summed; errors by utterance are what intervals are made from.
            "cer": total(scores.characters)._asdict(),
            "wer": total(scores.words)._asdict(),
            "reference": [c.reference for c in scores.characters],
            "errors": [c.errors for c in scores.characters],
            "data": done["data"],
        },
    )


def evaluated(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Of a condition its name, what `irl evaluate` or `irl perplexity` noted of how it was tested, and the counts."""
    if not path.exists():
        raise UserError(f"{path}: not evaluated; run stage 5 first")
    found = json.loads(path.read_text())
    counts = {"reference": found["reference"], "errors": found["errors"], "data": found["mark"]["data"]}
    return path.stem, found["mark"], counts


def main() -> None:
    parser = argparse.ArgumentParser(prog="irl score", description="Error rates of hypotheses, or of a whole run.")
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument("hypothesis", type=Path, nargs="?")
    parser.add_argument("--alignments", type=Path, help="write word alignments of utterances with errors")
    parser.add_argument("--trn", help="write PREFIX.ref.trn and PREFIX.hyp.trn for sclite, characters as tokens")
    parser.add_argument("--run", type=Path, help="directory of a finished, decoded run")
    parser.add_argument("--corpus", default="")
    parser.add_argument("--method", default="")
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME=DATA_DIR")
    parser.add_argument("--data", type=Path, help="test set of a classifier")
    parser.add_argument("--banks", nargs=2, default=results.GENERATED, help="noises and rooms of the test sets")
    parser.add_argument("--results", type=Path, help="JSON lines file to append the run to")
    args = parser.parse_args()
    if args.run is not None:
        if args.results is None or not args.conditions:
            parser.error("--run needs --results and --conditions")
        line = run_line(args)
        results.append(args.results, line)
        wording = METRICS[line["config"]["task"]]
        rates = {name: wording.show(total_errors(c)) for name, c in line["conditions"].items()}
        print(f"{args.run}: {in_units(wording)} " + " ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))
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
    return float(results.counts(condition["errors"]).sum() / results.counts(condition["reference"]).sum())


if __name__ == "__main__":
    run_command(main)
