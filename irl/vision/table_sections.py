"""Additional sections in tables of image classifiers: names of attacks, errors by corruption, and a check for masked
gradients."""

from __future__ import annotations

import re

import numpy as np

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
    return [*corruptions(table), *masking(table)]


def corruptions(table: Table) -> list[str]:
    """Errors by corruption, averaged over severities, and the mean over corruptions, mCE; as RobustBench does for
    CIFAR, without dividing by another model's. Runs of earlier versions do not tell kinds apart."""
    if "corruption" not in table.conditions:
        return []
    rows: list[list[str]] = []
    kinds: list[str] = []
    for method in table.methods:
        found = [line["conditions"]["corruption"] for line in table.lines if line["method"] == method]
        if not all("kinds" in own for own in found):
            continue
        images = int((table.reference["corruption"] > 0).sum())
        kinds = kinds or sorted(found[0]["kinds"])
        rates = [100 * np.mean([own["kinds"][kind] for own in found]) / images for kind in kinds]
        rows.append([table.label(method), *(f"{rate:.1f}" for rate in [*rates, np.mean(rates)])])
    if not rows:
        return []
    heads = [kind.replace("_", " ") for kind in kinds]
    return ["", "Corruptions: error in %, the mean over severities.", "", *grid(["method", *heads, "mCE"], rows)]


def masking(table: Table) -> list[str]:
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
