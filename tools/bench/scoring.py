"""Counting character errors beside jiwer: 1,000 pairs of sentences with errors as recognisers make them."""

from __future__ import annotations

import random

from harness import Report, alternate, arguments, parse

from irl.speech.scoring import count_edits


def pairs(count: int) -> tuple[list[str], list[str]]:
    """References of 40-120 characters, and copies with about 8 % of their characters changed, lost or doubled."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz      "
    references, hypotheses = [], []
    for _ in range(count):
        text = "".join(rng.choices(letters, k=rng.randint(40, 120)))
        text = " ".join(text.split())
        changed = [rng.choices([c, rng.choice(letters), "", c + c], [92, 4, 2, 2])[0] for c in text]
        references.append(text)
        hypotheses.append(" ".join("".join(changed).split()))
    return references, hypotheses


def main() -> None:
    args = parse(arguments(__doc__))
    import jiwer

    report = Report("Counting character errors", args, ("jiwer", "rapidfuzz"))
    references, hypotheses = pairs(1000)

    def ours() -> tuple[int, int]:
        counts = [count_edits(r, h) for r, h in zip(references, hypotheses)]
        return sum(c.errors for c in counts), sum(c.reference for c in counts)

    def theirs() -> tuple[int, int]:
        out = jiwer.process_characters(references, hypotheses)
        return (
            out.substitutions + out.deletions + out.insertions,
            out.substitutions + out.deletions + out.hits,
        )

    assert ours() == theirs(), (ours(), theirs())
    report.say(
        f"{len(references)} pairs. Substitutions, deletions and insertions are counted separately; the totals of both "
        "packages are equal (checked)."
    )
    report.table(alternate({"irl": ours, "jiwer": theirs}, args.rounds, label="scoring"), "irl", 1000, "pairs/s")
    report.close()


if __name__ == "__main__":
    main()
