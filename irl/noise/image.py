"""Noise on images: colour jitter, lighting and Gaussian noise, each sample with its own draws, whole batches at once.

Every colour noise here maps the RGB value x of a pixel to M x + b, with one matrix and one shift an image, so a chain
of them is one such map and touches each pixel once. Definitions are those of MXNet, whose names the paper uses: with
gray = 0.299 R + 0.587 G + 0.114 B and a factor a = 1 + U(-s, s),

    brightness  a x                       contrast    a x + (1 - a) * (mean of gray over the image)
    saturation  a x + (1 - a) gray        hue         a rotation of the chroma plane of YIQ by U(-h, h) * pi
    lighting    x + 255 sum_i alpha_i lambda_i e_i, alpha_i ~ N(0, s): e_i, lambda_i the eigenvectors and eigenvalues of
                the training set's RGB covariance, of values in [0, 1] (Krizhevsky et al. 2012); or, on the same axes,
                255 sum_i alpha_i sqrt(lambda_i) e_i, which has s^2 times the covariance of the colours themselves

in the order brightness, contrast, saturation, hue, lighting. Images are float (N, 3, H, W) on the scale 0-255.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from typing import Literal, Sequence

import numpy as np
import torch
from torch import Tensor

from irl.core.output import constant
from irl.core.rng import Keys, to_normal, to_uniform
from irl.core.types import Checked, Fraction, NonNegative
from irl.noise import augmix

GRAY = (0.299, 0.587, 0.114)
# NTSC's luma and chroma, to three digits as usual. Rotation keeps Y, so gray stays what it is.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.321), (0.211, -0.523, 0.311))
FROM_YIQ = tuple(map(tuple, np.linalg.inv(YIQ).tolist()))
LightingAxes = Literal["eigenvalues", "deviations"]
JITTERS = ("brightness", "contrast", "saturation")
Params = dict[str, Tensor]


@dataclass(frozen=True)
class ColorMap:
    """x -> M x + b for each image: matrix (N, 3, 3) or, where M = m I, scale (N,); shift (N, 3)."""

    shift: Tensor
    scale: Tensor
    matrix: Tensor | None = None

    @classmethod
    def identity(cls, rows: int, device: torch.device) -> ColorMap:
        return cls(torch.zeros(rows, 3, device=device), torch.ones(rows, device=device))

    def scaled(self, a: Tensor) -> ColorMap:
        matrix = None if self.matrix is None else self.matrix * a[:, None, None]
        return ColorMap(self.shift * a[:, None], self.scale * a, matrix)

    def shifted(self, by: Tensor) -> ColorMap:
        return ColorMap(self.shift + by, self.scale, self.matrix)

    def multiplied(self, by: Tensor) -> ColorMap:
        """by (N, 3, 3) after this map."""
        matrix = self.scale[:, None, None] * by if self.matrix is None else by @ self.matrix
        return ColorMap((by @ self.shift[..., None])[..., 0], self.scale, matrix)

    def of(self, color: Tensor) -> Tensor:
        """The image of one colour (N, 3) each."""
        if self.matrix is None:
            return torch.addcmul(self.shift, color, self.scale[:, None])
        return torch.baddbmm(self.shift[..., None], self.matrix, color[..., None])[..., 0]

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W), in one pass, in its own memory layout."""
        if self.matrix is None:
            # In two steps: with both factors broadcast addcmul is slower.
            return x.mul(self.scale[:, None, None, None]).add_(self.shift[..., None, None])
        if x.is_contiguous(memory_format=torch.channels_last):
            pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
            out = torch.baddbmm(self.shift[:, None], pixels, self.matrix.transpose(1, 2))
            return out.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return torch.baddbmm(self.shift[..., None], self.matrix, x.flatten(2)).view_as(x)


def hue_rotation(angle: Tensor) -> Tensor:
    """Rotations of the chroma plane in RGB, angles (N,) in radians -> (N, 3, 3)."""
    yiq, back = (constant(m, angle.device, torch.float64) for m in (YIQ, FROM_YIQ))
    cos, sin, zero = torch.cos(angle.double()), torch.sin(angle.double()), torch.zeros_like(angle.double())
    rows = (torch.ones_like(cos), zero, zero, zero, cos, -sin, zero, sin, cos)
    rotation = torch.stack(rows, -1).view(-1, 3, 3)
    return (back @ rotation @ yiq).float()


@dataclass(frozen=True)
class ImageNoiseConfig(Checked):
    """Strengths, 0 for none: brightness, contrast, saturation in [0, 1] as s above; hue as h; lighting as the standard
    deviation of alpha, lighting_axes "eigenvalues" (Krizhevsky) or "deviations" (their roots); gaussian: standard
    deviation of noise on every value, on the scale 0-255, added last. augmix: AugMix with levels up to this, in [0, 1],
    before all others; 0.3 is that paper's (irl.noise.augmix).

    clip: the result to 0-255.
    """

    brightness: Fraction = 0.5
    contrast: Fraction = 0.5
    saturation: Fraction = 0.0
    hue: Fraction = 0.0
    lighting: NonNegative = 0.1
    lighting_axes: LightingAxes = "eigenvalues"
    gaussian: NonNegative = 0.0
    augmix: Fraction = 0.0
    clip: bool = False


def check_scale(x: Tensor, largest: float) -> None:
    """Raise ValueError for images that cannot hold pixels of 0 to `largest`: beyond 16 times that; or, where it is 255,
    all below 4, as images in [0, 1] and normalised ones are.

    Whole numbers pass: the pixels of black images are. So does what an earlier noise has moved out of the range.
    """
    top = float(torch.stack(x.detach().aminmax()).abs().max()) if x.numel() else 0.0
    low = largest > 16 and 0 < top < largest / 64 and not bool((x == x.round()).all())
    if low or top > 16 * largest:
        raise ValueError(
            f"expected pixels of 0 to {largest:g}, but the largest value is {top:.3g}; irl.noise.image_noise takes "
            "scale=1 for images in [0, 1], scale=255 for 0-255, and mean= and std= for normalised ones"
        )


@dataclass(frozen=True)
class ImageNoise:
    """The noise of a configuration. directions: (3, 3), row i is 255 sqrt(lambda_i) e_i (`lighting_of`).

    Raises ValueError if lighting has no directions, or AugMix no torchvision.
    """

    config: ImageNoiseConfig
    directions: Tensor = field(default_factory=lambda: torch.zeros(3, 3))

    def __post_init__(self) -> None:
        if self.config.augmix and importlib.util.find_spec("torchvision") is None:
            raise ValueError("augmix needs torchvision: pip install '.[vision]'")
        if self.config.lighting and not self.directions.any():
            raise ValueError(
                f"lighting {self.config.lighting:g} without directions changes nothing: give the directions of the "
                "colours (lighting_of their covariance), or lighting=0"
            )

    @property
    def axes(self) -> Tensor:
        if self.config.lighting_axes == "deviations":
            return self.directions
        return self.directions * self.directions.norm(dim=1, keepdim=True) / 255

    def draw(self, keys: Keys, shape: Sequence[int] = (0, 0)) -> Params:
        """Factors (N,) by name, "hue" an angle (N,), "lighting" a shift (N, 3), "gaussian" noise (N, 3, H, W), and the
        draws of "augmix"."""
        c, found = self.config, {}
        wanted = [name for name in (*JITTERS, "hue", "lighting") if getattr(c, name)]
        if wanted:
            bits = keys.bits_of(wanted, 6 if c.lighting else 1)
            draws = to_uniform(bits[..., 0], -1.0, 1.0).float()
            for name, u in zip(wanted, draws):
                if name == "lighting":
                    alpha = to_normal(bits[-1]).float() * c.lighting
                    found[name] = alpha @ self.axes.to(alpha.device)
                else:
                    found[name] = u * (c.hue * math.pi) if name == "hue" else 1 + u * getattr(c, name)
        if c.augmix:
            found["augmix"] = augmix.draw(keys)
        if c.gaussian:
            noise = keys.sub("gaussian").normal(3 * shape[0] * shape[1]) * c.gaussian
            found["gaussian"] = noise.float().view(-1, 3, *shape)
        return found

    def map(self, x: Tensor, params: Params) -> ColorMap:
        """The colour map of the parameters on images x; only contrast looks at them."""
        m = ColorMap.identity(len(x), x.device)
        gray = constant(GRAY, x.device)
        if "brightness" in params:
            m = m.scaled(params["brightness"])
        if "contrast" in params:
            a = params["contrast"]
            # The map is affine, so the mean of what it gives is what it gives of the mean.
            m = m.scaled(a).shifted(((1 - a) * (m.of(x.mean((2, 3))) * gray).sum(1))[:, None])
        if "saturation" in params:
            a = params["saturation"][:, None, None]
            m = m.multiplied(a * torch.eye(3, device=x.device) + (1 - a) * gray)
        if "hue" in params:
            m = m.multiplied(hue_rotation(params["hue"]))
        return m.shifted(params["lighting"]) if "lighting" in params else m

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """float (N, 3, H, W) on the scale 0-255 -> new images; x is not written. Raises ValueError for images on
        another scale (`check_scale`); on a GPU, where looking would wait, it does not look."""
        if x.is_cpu:
            check_scale(x, 255.0)
        if "augmix" in params:
            x = augmix.apply(x, params["augmix"], self.config.augmix)
        out = self.map(x, params)(x)
        if "gaussian" in params:
            out = out + params["gaussian"]
        return out.clamp(0, 255) if self.config.clip else out


def lighting_of(covariance: Tensor) -> Tensor:
    """Of the covariance of colours on the scale 0-255 the roots of the eigenvalues times the eigenvectors, as rows
    (3, 3), the largest first. Signs are fixed: the largest component of each is positive."""
    values, vectors = torch.linalg.eigh(covariance.double())
    vectors = vectors.T.flip(0)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return (vectors * largest.sign() * values.flip(0).clamp(min=0).sqrt()[:, None]).float()
