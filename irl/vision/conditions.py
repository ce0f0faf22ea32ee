"""The test conditions of an image classifier."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

from irl.core import config
from irl.core.errors import UserError
from irl.core.machine import installed
from irl.core.types import Checked, Count, Fraction, Natural, NonNegative
from irl.noise.adversarial import AttackConfig, Norm, Units
from irl.noise.image import ImageNoiseConfig, LightingAxes

ATTACKS = r"(fgsm|random|pgd(?P<steps>[1-9]\d*)|apgd_ce|apgd_dlr|autoattack)_(?P<eps>\d+(\.\d+)?)"
APGD_STEPS = 100  # as in AutoAttack


@dataclass(frozen=True)
class EvaluationConfig(Checked):
    """Settings of the test conditions, the same for all compared methods.

    none: the images themselves. in: brightness and contrast jitter of strength `jitter` and lighting. out: hue and
    saturation jitter. ATTACK_EPS, such as fgsm_0.2, pgd20_0.2 (20 steps), apgd_ce_0.2, apgd_dlr_0.2, random_0.2,
    autoattack_8: an attack on the model, or random noise, of this size; eps as in `irl.noise.adversarial`. corruption:
    the mean over kinds and severities of `corruptions`, a folder in the layout of CIFAR-10-C; empty: the corruptions
    made by stage 2.

    slow_images: number of test images for iterated attacks and corruptions, 0 for all.
    """

    jitter: Fraction = 0.5
    hue: Fraction = 0.5
    lighting: NonNegative = 0.1
    lighting_axes: LightingAxes = "eigenvalues"
    clip: bool = False
    norm: Norm = "linf"
    units: Units = "normalised"
    clip_attacks: bool = False
    restarts: Count = 1
    slow_images: Natural = 0
    corruptions: str = ""

    def noises(self) -> dict[str, ImageNoiseConfig]:
        none = ImageNoiseConfig(0.0, 0.0, lighting=0.0, lighting_axes=self.lighting_axes, clip=self.clip)
        return {
            "none": none,
            "in": replace(none, brightness=self.jitter, contrast=self.jitter, lighting=self.lighting),
            "out": replace(none, saturation=self.jitter, hue=self.hue),
        }

    def noise(self, condition: str) -> ImageNoiseConfig:
        """Raises UserError for a condition that is no noise."""
        known = self.noises()
        if condition not in known:
            raise UserError(f"{condition!r} is not a colour noise, known are {', '.join(known)}")
        return known[condition]

    def check(self, conditions: Sequence[str]) -> None:
        """Raises UserError for what is no condition: before anything is trained for it."""
        for condition in conditions:
            if condition != "corruption" and condition not in self.noises():
                self.attack(condition)

    def attack(self, condition: str) -> AttackConfig | None:
        """The attack that a condition names, None for autoattack. Raises UserError for names that are none."""
        found = re.fullmatch(ATTACKS, condition)
        if not found:
            raise UserError(f"unknown condition {condition!r}, known are {', '.join(self.noises())}, corruption and "
                            "ATTACK_EPS with fgsm, pgdSTEPS, apgd_ce, apgd_dlr, random or autoattack")  # fmt: skip
        kind = found[1]
        if kind == "autoattack":
            if self.units != "pixels":
                raise UserError(f"{condition}: AutoAttack measures eps on pixels: set units: pixels")
            if not installed("autoattack"):
                raise UserError(
                    f"{condition}: the package autoattack is not installed (it is not on PyPI: github "
                    "fra31/auto-attack); apgd_ce and apgd_dlr need no package"
                )
            return None
        steps = int(found["steps"] or APGD_STEPS)
        shared = {"norm": self.norm, "units": self.units, "clip": self.clip_attacks, "restarts": self.restarts}
        kind = "pgd" if found["steps"] else kind
        return AttackConfig(kind=kind, eps=float(found["eps"]), steps=steps, **shared)  # type: ignore[arg-type]


def check_classes(condition: str, classes: Sequence[str]) -> None:
    """Raises UserError for a condition that needs more classes."""
    if condition.startswith("apgd_dlr") and len(classes) < 3:
        raise UserError(f"{condition}: the DLR loss needs 3 classes, found {len(classes)}: {', '.join(classes)}")


def read_settings(path: Path, overrides: list[str]) -> EvaluationConfig:
    """Of a YAML file with key=value overrides."""
    return config.load(EvaluationConfig, path, overrides)
