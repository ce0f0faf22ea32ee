"""What only tables of images have: heads of columns for attacks, and the check for gradient masking."""

from __future__ import annotations

import re
from typing import Any


def heading(condition: str) -> str:
    """A condition as a column calls it: fgsm_0.2 is FGSM 0.2."""
    attack, underscore, eps = condition.rpartition("_")
    if not underscore or not eps.replace(".", "").isdigit():
        return condition
    if attack != "random":
        attack = re.sub(r"^PGD(?=\d)", "PGD-", attack.upper().replace("_", "-"))
    return f"{attack} {eps}"


# Points by which PGD may find more errors than FGSM of the same size before a model is said to mask its gradients.
MASKED = 0.1


def masking(table: Any) -> list[str]:
    """For each size that FGSM, PGD and random noise share their errors side by side, on the images that all saw."""
    rows = []
    for fgsm in [c for c in table.conditions if c.startswith("fgsm_")]:
        eps = fgsm.removeprefix("fgsm_")
        pgd = next((c for c in table.conditions if c.startswith("pgd") and c.endswith(f"_{eps}")), None)
        if pgd is None:
            continue
        random = f"random_{eps}" if f"random_{eps}" in table.conditions else None
        seen = table.reference[pgd] > 0
        for method in table.methods:
            rates = {
                c: table.errors[method, c][seen].sum() / table.reference[c][seen].sum()
                for c in (random, fgsm, pgd)
                if c is not None
            }
            mark = "masked: FGSM does not tell" if rates[pgd] - rates[fgsm] > MASKED else ""
            cells = [f"{100 * rates[c]:.1f}" if c in rates else "" for c in (random, fgsm, pgd)]
            rows.append(f"| {table.label(method)} | {eps} | " + " | ".join([*cells, mark]) + " |")
    if not rows:
        return []
    head = (
        "Gradient masking: error in % under random noise, FGSM and PGD of one size, on the same images. A row is marked"
        f" where PGD finds more than {100 * MASKED:.0f} points more than FGSM: then robustness to FGSM is none."
    )
    return ["", head, "", "| method | eps | random | FGSM | PGD | |", "|---|---|---|---|---|---|", *rows]
