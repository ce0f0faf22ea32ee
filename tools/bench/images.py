"""Colour noise on one core: batches of float images of 32 x 32, each with factors of its own, draws included.

Beside kornia (its functions with a factor for each image, and its ColorJitter module) and torchvision (image by image).
"""

from __future__ import annotations

from typing import Callable

import torch
from harness import Report, alternate, arguments, parse
from torch import Tensor

from irl.core.rng import Keys
from irl.noise.image import ImageNoise, ImageNoiseConfig

SIZE = 32
BATCHES = (128, 1024)
DIRECTIONS = torch.tensor([[55.0, 54.0, 53.0], [9.0, 0.0, -9.0], [2.0, -4.0, 2.0]])
SETS = {
    "brightness, contrast and lighting": {"brightness": 0.5, "contrast": 0.5, "lighting": 0.1},
    "saturation and hue": {"saturation": 0.5, "hue": 0.25},
}
OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "lighting": 0.0}


def factors(x: Tensor, strength: float, center: float = 1.0) -> Tensor:
    return torch.empty(len(x)).uniform_(center - strength, center + strength)


def lit(x: Tensor) -> Tensor:
    """kornia and torchvision have no such noise."""
    return x + (0.1 * torch.randn(len(x), 3) @ DIRECTIONS / 255)[..., None, None]


def peers(name: str, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The same noises by other packages, on images of [0, 1]; hue is a rotation in HSV there, ours one in YIQ."""
    import kornia
    from torchvision.transforms.v2 import ColorJitter
    from torchvision.transforms.v2 import functional as tv

    k = kornia.enhance
    if name.startswith("brightness"):
        module = kornia.augmentation.ColorJitter(brightness=0.5, contrast=0.5, p=1.0)
        jitter = ColorJitter(brightness=0.5, contrast=0.5)

        def by_functions() -> Tensor:
            out = k.adjust_brightness_accumulative(x, factors(x, 0.5))
            return lit(k.adjust_contrast_with_mean_subtraction(out, factors(x, 0.5)))

        return {
            "kornia, functions": by_functions,
            "kornia, ColorJitter": lambda: lit(module(x)),
            "torchvision, one by one": lambda: lit(torch.stack([jitter(image) for image in x])),
        }
    module = kornia.augmentation.ColorJitter(saturation=0.5, hue=0.25, p=1.0)

    def by_functions() -> Tensor:
        out = k.adjust_saturation_with_gray_subtraction(x, factors(x, 0.5))
        return k.adjust_hue(out, 2 * torch.pi * factors(x, 0.25, 0.0))

    def one_by_one() -> Tensor:
        a, h = factors(x, 0.5).tolist(), factors(x, 0.25, 0.0).tolist()
        return torch.stack([tv.adjust_hue(tv.adjust_saturation(x[i], a[i]), h[i]) for i in range(len(x))])

    return {
        "kornia, functions": by_functions,
        "kornia, ColorJitter": lambda: module(x),
        "torchvision, one by one": one_by_one,
    }


def agree(x: Tensor) -> None:
    """Brightness, contrast and saturation are what kornia makes of the same factors, where neither clips."""
    import kornia

    k = kornia.enhance
    a = factors(x, 0.05)
    inside = 0.3 + 0.4 * x
    for name, other in (
        ("brightness", k.adjust_brightness_accumulative),
        ("contrast", k.adjust_contrast_with_mean_subtraction),
        ("saturation", k.adjust_saturation_with_gray_subtraction),
    ):
        noise = ImageNoise(ImageNoiseConfig(**OFF))  # type: ignore[arg-type]
        ours = noise.apply(255 * inside, {name: a}) / 255
        assert torch.allclose(ours, other(inside, a), atol=2e-3), name


def ours(noise: ImageNoise, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    keys = Keys(torch.arange(len(x)), 1, "noise")
    last = x.contiguous(memory_format=torch.channels_last)
    return {
        "irl": lambda: noise.apply(x, noise.draw(keys)),
        "irl, channels last": lambda: noise.apply(last, noise.draw(keys)),
    }


def main() -> None:
    args = parse(arguments(__doc__))
    report = Report("Colour noise", args, ("kornia", "torchvision"))
    torch.manual_seed(0)
    agree(torch.rand(16, 3, SIZE, SIZE))
    for name, strengths in SETS.items():
        for batch in BATCHES:
            x = torch.rand(batch, 3, SIZE, SIZE)
            noise = ImageNoise(ImageNoiseConfig(**{**OFF, **strengths}), DIRECTIONS)  # type: ignore[arg-type]
            steps = {**ours(noise, 255 * x), **peers(name, x)}
            report.say(
                f"{name.capitalize()}, {batch} images. With the same factors all give the same images, "
                "except for hue (checked)."
            )
            report.table(alternate(steps, args.rounds, label=name), "irl", batch, "images/s")
    report.close()


if __name__ == "__main__":
    main()
