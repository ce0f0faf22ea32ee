"""What the test conditions of a classifier of images mean."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from irl import config
from irl.errors import UserError
from irl.noise.adversarial import NORMS, UNITS, AttackConfig
from irl.noise.image import ImageNoiseConfig

ATTACKS = r"(fgsm|random|pgd(?P<steps>\d+)|apgd_ce|apgd_dlr|autoattack)_(?P<eps>\d+(\.\d+)?)"
APGD_STEPS = 100  # as in AutoAttack


@dataclass(frozen=True)
class EvaluationConfig:
    """What the conditions of a test mean, the same for every method that is compared.

    none: the images themselves. in: brightness and contrast jitter of strength `jitter` and lighting. out: hue and
    saturation jitter. ATTACK_EPS, as fgsm_0.2, pgd20_0.2 (20 steps), apgd_ce_0.2, apgd_dlr_0.2, random_0.2,
    autoattack_8: the model attacked, or random noise of that size; eps as in `irl.noise.adversarial`. corruption: the
    mean over kinds and severities of `corruptions`, a folder in the layout of CIFAR-10-C; empty: those that stage 2
    makes.

    slow_images: iterated attacks and corruptions look at the first so many test images, 0 for all.
    """

    jitter: float = 0.5
    hue: float = 0.5
    lighting: float = 0.1
    clip: bool = False
    norm: str = "linf"
    units: str = "normalised"
    clip_attacks: bool = False
    restarts: int = 1
    slow_images: int = 0
    corruptions: str = ""

    def __post_init__(self) -> None:
        self.noises()
        for name, allowed in (("norm", NORMS), ("units", UNITS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.restarts < 1 or self.slow_images < 0:
            raise ValueError(
                f"restarts must be at least 1 and slow_images not negative, got {self.restarts}, {self.slow_images}"
            )

    def noises(self) -> dict[str, ImageNoiseConfig]:
        still = {"brightness": 0.0, "contrast": 0.0, "lighting": 0.0, "clip": self.clip}
        inside = {"brightness": self.jitter, "contrast": self.jitter, "lighting": self.lighting}
        outside = {"saturation": self.jitter, "hue": self.hue}
        return {
            "none": ImageNoiseConfig(**still),  # type: ignore[arg-type]
            "in": ImageNoiseConfig(**{**still, **inside}),  # type: ignore[arg-type]
            "out": ImageNoiseConfig(**{**still, **outside}),  # type: ignore[arg-type]
        }

    def noise(self, condition: str) -> ImageNoiseConfig:
        """Raises UserError for a condition that is no noise."""
        known = self.noises()
        if condition not in known:
            raise UserError(f"{condition!r} is no noise on colours, those are {', '.join(known)}")
        return known[condition]

    def attack(self, condition: str) -> AttackConfig | None:
        """The attack that a condition names, None for autoattack. Raises UserError for names that are none."""
        found = re.fullmatch(ATTACKS, condition)
        if not found or not math.isfinite(float(found["eps"])):
            raise UserError(f"unknown condition {condition!r}, known are {', '.join(self.noises())}, corruption and "
                            "ATTACK_EPS with fgsm, pgdSTEPS, apgd_ce, apgd_dlr, random or autoattack")  # fmt: skip
        kind = found[1]
        if kind == "autoattack":
            return None
        steps = int(found["steps"] or APGD_STEPS)
        shared = {"norm": self.norm, "units": self.units, "clip": self.clip_attacks, "restarts": self.restarts}
        kind = "pgd" if found["steps"] else kind
        return AttackConfig(kind=kind, eps=float(found["eps"]), steps=steps, **shared)  # type: ignore[arg-type]


def read_settings(path: Path, overrides: list[str]) -> EvaluationConfig:
    """Of a YAML file with key=value overrides."""
    return config.load(EvaluationConfig, path, overrides)
