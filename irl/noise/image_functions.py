"""Noises of images, each made by one call: `irl.noise.image` and `irl.noise.adversarial` in other people's code."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from irl.core.output import Output
from irl.core.rng import Keys
from irl.noise.adversarial import Attack, AttackConfig, Norm
from irl.noise.functions import IMAGES, NoiseFunction
from irl.noise.image import ImageNoise, ImageNoiseConfig, LightingAxes, check_scale, lighting_of


class Pixels:
    """How images (N, C, H, W) hold their pixels. scale: the largest pixel, 1 or 255. mean, std: of each colour or of
    all, on that scale, where images are normalised, (pixel - mean) / std."""

    def __init__(self, scale: float, mean: Any, std: Any) -> None:
        if not scale > 0 or (mean is None) != (std is None):
            raise ValueError("scale: expected the largest pixel, 1 or 255; and mean and std both, or none of them, "
                             f"found {scale!r}, {mean!r}, {std!r}")  # fmt: skip
        self.scale, self.normalised = scale, mean is not None
        # On the scale 0-255, as the noises measure.
        both = (torch.as_tensor(0.0 if mean is None else mean), torch.as_tensor(1.0 if std is None else std))
        self.mean, self.std = (255 / scale * x.float().reshape(-1) for x in both)
        if not bool((self.std > 0).all()):
            raise ValueError(f"std: expected numbers above 0, found {std!r}")

    def bytes_of(self, x: Tensor) -> Tensor:
        """Images -> pixels on the scale 0-255."""
        return x * self.std.to(x.device)[:, None, None] + self.mean.to(x.device)[:, None, None]

    def of_bytes(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean.to(pixels.device)[:, None, None]) / self.std.to(pixels.device)[:, None, None]

    def check(self, x: Tensor) -> None:
        """Raise ValueError for images on another scale, and for normalised ones that are none."""
        if self.normalised:
            check_scale(self.bytes_of(x) / 255, 1.0)
        else:
            check_scale(x, self.scale)


class ImageFunction(NoiseFunction):
    """A colour noise of `irl.noise.image`."""

    inputs = IMAGES

    def __init__(self, noise: ImageNoise, pixels: Pixels) -> None:
        super().__init__()
        self.noise, self.pixels, self.checked = noise, pixels, False

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None = None) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError(f"expected images of 3 colours, (3, H, W) or (N, 3, H, W), found {list(x.shape)}")
        if x.is_cpu or not self.checked:  # on a GPU only the first batch: looking waits for it
            self.pixels.check(x)
            self.checked = True
        noisy = self.noise.apply(self.pixels.bytes_of(x), self.noise.draw(keys, x.shape[2:]))
        return self.pixels.of_bytes(noisy)


def image_noise(
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    lighting: float = 0.0,
    gaussian: float = 0.0,
    augmix: float = 0.0,
    *,
    scale: float,
    mean: Any = None,
    std: Any = None,
    colors: Tensor | None = None,
    lighting_axes: LightingAxes = "eigenvalues",
    clip: bool = False,
) -> NoiseFunction:
    """Colour jitter, lighting and Gaussian noise, of the strengths of `irl.noise.image`; 0 is none.

    scale: what the images are, 1 for pixels in [0, 1], 255 for 0-255. mean, std: for images that are normalised,
    (pixel - mean) / std, each a number or three, on that scale. gaussian: standard deviation, on that scale. augmix:
    the strength of AugMix (`irl.noise.augmix`), 0.3 in its paper. clip: pixels to 0 ... scale. colors: images
    (N, 3, H, W) of the training set, as the noise gets them; lighting follows the covariance of their colours.
    """
    pixels = Pixels(scale, mean, std)
    strengths = (brightness, contrast, saturation, hue, lighting)
    config = ImageNoiseConfig(*strengths, lighting_axes, gaussian * 255 / scale, augmix, clip)
    if not any((*strengths, gaussian, augmix)):
        raise ValueError("image_noise: every strength is 0, so the noise would do nothing")
    if (colors is None) == bool(lighting):
        raise ValueError("lighting and colors go together: lighting needs images of the training set, colors=images")
    if colors is None:
        return ImageFunction(ImageNoise(config), pixels)
    rows = pixels.bytes_of(torch.as_tensor(colors).float()).movedim(1, -1).reshape(-1, 3)
    return ImageFunction(ImageNoise(config, lighting_of(torch.cov(rows.T, correction=0))), pixels)


class _Logits(nn.Module):
    """A model whose output is logits, or holds them as `.logits`, as `Attack` calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Output:
        output = self.model(x)
        return Output(getattr(output, "logits", output), {})


class AttackFunction(NoiseFunction):
    """An attack of `irl.noise.adversarial` on a model."""

    inputs = IMAGES

    def __init__(self, model: nn.Module, config: AttackConfig, pixels: Pixels) -> None:
        super().__init__()
        self.model, self.pixels = _Logits(model), pixels
        self.attack = Attack(config, pixels.mean, pixels.std)

    def apply(self, x: Tensor, lens: Tensor, keys: Keys, y: Tensor | None = None) -> Tensor:
        if y is None or len(y) != len(x) or y.is_floating_point():
            raise ValueError(f"y: an attack needs the label of each of the {len(x)} images, whole numbers, found {y}")
        return self.attack.apply(x, y, self.model, keys)


def fgsm(
    model: nn.Module,
    eps: float,
    *,
    scale: float,
    mean: Any = None,
    std: Any = None,
    norm: Norm = "linf",
    clip: bool = True,
) -> NoiseFunction:
    """Fast gradient sign method (Goodfellow et al. 2015) on a model of images, which returns logits (N, C) or an object
    with `.logits`. Call it with y=labels, in the training loop: it needs the model as it is.

    eps: size of the change of a pixel, in units of `scale`; scale, mean, std: as in `image_noise`. norm: "linf", "l2".
    clip: pixels to 0 ... scale. The model is attacked in evaluation mode and gets its mode back.
    """
    return _attack(model, "fgsm", eps, scale, mean, std, norm=norm, clip=clip)


def pgd(
    model: nn.Module,
    eps: float,
    steps: int = 20,
    *,
    scale: float,
    mean: Any = None,
    std: Any = None,
    step_size: float = 0.0,
    restarts: int = 1,
    norm: Norm = "linf",
    clip: bool = True,
) -> NoiseFunction:
    """Projected gradient descent (Madry et al. 2018) from a random start. step_size: in units of `scale`, 0 is
    2.5 eps / steps. restarts: the worst of so many. The rest as in `fgsm`."""
    size = step_size * 255 / scale
    settings = {"steps": steps, "step_size": size, "restarts": restarts, "norm": norm, "clip": clip}
    return _attack(model, "pgd", eps, scale, mean, std, **settings)


def _attack(
    model: nn.Module, kind: Literal["fgsm", "pgd"], eps: float, scale: float, mean: Any, std: Any, **settings: Any
) -> NoiseFunction:
    pixels = Pixels(scale, mean, std)
    if not eps > 0:
        raise ValueError(f"eps: expected a number above 0, found {eps!r}")
    return AttackFunction(model, AttackConfig(kind, eps * 255 / scale, units="pixels", **settings), pixels)
