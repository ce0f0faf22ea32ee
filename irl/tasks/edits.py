"""Edit counts between a reference and a hypothesis, by rapidfuzz.

They are the least possible. NIST sclite weighs a substitution 4 and an insertion or deletion 3: its totals are the same
on what recognisers put out, and may be a little larger where nearly everything is wrong.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

from rapidfuzz.distance import Levenshtein


class Edits(NamedTuple):
    """Counts of one utterance or of many: they add up, and are divided only at the end."""

    reference: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: object) -> Edits:
        assert isinstance(other, Edits)
        return Edits(*(a + b for a, b in zip(self, other)))


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Least edits from reference to hypothesis: strings count characters, spaces too; lists of words count words."""
    edits = Levenshtein.editops(reference, hypothesis)
    substitutions = [tag for tag, _, _ in edits.as_list()].count("replace")
    # Deletions and insertions follow from their sum and their difference: counting every kind would cost more.
    rest = len(edits) - substitutions
    deletions = (rest + len(reference) - len(hypothesis)) // 2
    return Edits(len(reference), substitutions, deletions, rest - deletions)
