"""Additional sections in tables of image classifiers: names of attacks, and a check for masked gradients."""

from __future__ import annotations

import re

from irl.reporting.markdown import grid
from irl.reporting.table import Table

# Points by which PGD may find more errors than FGSM of the same size before a model is said to mask its gradients.
MASKED = 0.1


def heading(condition: str) -> str:
    """A condition as the head of a column: fgsm_0.2 is FGSM 0.2."""
    attack, underscore, eps = condition.rpartition("_")
    if not underscore or not eps.replace(".", "").isdigit():
        return condition
    if attack != "random":
        attack = re.sub(r"^PGD(?=\d)", "PGD-", attack.upper().replace("_", "-"))
    return f"{attack} {eps}"


def table_sections(table: Table) -> list[str]:
    """Errors under random noise, FGSM and PGD side by side, for each size that FGSM and PGD share, on the images that
    all of them saw."""
    rows = []
    for fgsm in [c for c in table.conditions if c.startswith("fgsm_")]:
        eps = fgsm.removeprefix("fgsm_")
        pgd = next((c for c in table.conditions if c.startswith("pgd") and c.endswith(f"_{eps}")), None)
        if pgd is None:
            continue
        shown = [c if c in table.conditions else None for c in (f"random_{eps}", fgsm, pgd)]
        seen = table.reference[pgd] > 0
        for method in table.methods:
            rates = {
                c: table.errors[method, c][seen].sum() / table.reference[c][seen].sum() for c in shown if c is not None
            }
            cells = [f"{100 * rates[c]:.1f}" if c is not None else "" for c in shown]
            mark = "masked" if rates[pgd] - rates[fgsm] > MASKED else ""
            rows.append([table.label(method), eps, *cells, mark])
    if not rows:
        return []
    head = (
        "Gradient masking: error in % under random noise, FGSM and PGD of one size, on the same images. Where PGD "
        f"finds over {100 * MASKED:.0f} points more errors than FGSM, gradients are masked: few errors under FGSM then "
        "do not mean that the model is robust."
    )
    return ["", head, "", *grid(["method", "eps", "random", "FGSM", "PGD", "gradients"], rows)]
