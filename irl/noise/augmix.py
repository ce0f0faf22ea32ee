"""AugMix (Hendrycks et al. 2020): three chains of one to three operations on an image, mixed with it by random weights.

The operations are those of the paper's own code, on pixels 0-255. Their levels are drawn between a hundredth and the
strength. Draws come from `Keys` alone; the images of a batch that drew one operation go through it together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from irl.core.rng import Keys

CHAINS, LONGEST = 3, 3


def draw(keys: Keys) -> Tensor:
    """Numbers in [0, 1), (N, 1 + CHAINS * (2 + 3 * LONGEST)): the share of the chains in the result; of each chain its
    weight and length, and of each operation which one it is, its level and its sign."""
    # In float32 the largest draws would round to 1.
    return keys.sub("augmix").uniform(1 + CHAINS * (2 + 3 * LONGEST)).float().clamp(max=1 - 2**-24)


def apply(x: Tensor, drawn: Tensor, strength: float) -> Tensor:
    """float (N, 3, H, W) with pixels 0-255 -> new images of the same form, not rounded. strength: the highest level, in
    [0, 1]; 0.3 is the paper's severity of 3."""
    share, rest = drawn[:, 0], drawn[:, 1:].unflatten(1, (CHAINS, -1))
    # Weights of a flat Dirichlet distribution: exponential draws, divided by their sum.
    weights = -torch.log1p(-rest[..., 0])
    weights = share[:, None] * weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    start, least = x.round().clamp(0, 255), min(0.01, strength)
    mixed = x * (1 - share)[:, None, None, None]
    for chain in range(CHAINS):
        length, steps = 1 + (rest[:, chain, 1] * LONGEST).long(), rest[:, chain, 2:].unflatten(1, (LONGEST, 3))
        image = start.clone()
        for step in range(LONGEST):
            which = (steps[:, step, 0] * len(OPERATIONS)).long().where(length > step, -1)
            for number, operation in enumerate(OPERATIONS):
                rows = (which == number).nonzero()[:, 0]
                if len(rows):
                    level = least + steps[rows, step, 1] * (strength - least)
                    sign = torch.where(steps[rows, step, 2] > 0.5, -1.0, 1.0)
                    image[rows] = operation(image[rows], level, sign)
        mixed += weights[:, chain, None, None, None] * image
    return mixed


# Each takes whole pixels 0-255 (n, 3, H, W), levels in [0, 1] and signs (n,).


def autocontrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.autocontrast(x.byte()).to(x.dtype)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.equalize(x.byte()).to(x.dtype)


def posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    step = 2.0 ** (4 + (level * 4).floor())[:, None, None, None]
    return (x / step).floor() * step


def solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return torch.where(x < 256 - (level * 256).floor()[:, None, None, None], x, 255 - x)


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    angle = sign * (level * 30).floor() * (math.pi / 180)
    cos, sin, middle = angle.cos(), angle.sin(), [side / 2 for side in (x.shape[3], x.shape[2])]
    across = torch.stack([cos, -sin, middle[0] - cos * middle[0] + sin * middle[1]], 1)
    down = torch.stack([sin, cos, middle[1] - sin * middle[0] - cos * middle[1]], 1)
    return _affine(x, torch.stack([across, down], 1))


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, 0, 1, 0.3 * sign * level)


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, 1, 0, 0.3 * sign * level)


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, 0, 2, sign * (level * x.shape[3] / 3).floor())


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, 1, 2, sign * (level * x.shape[2] / 3).floor())


OPERATIONS = (
    autocontrast, equalize, posterize, rotate, solarize, shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip


def _moved(x: Tensor, row: int, column: int, by: Tensor) -> Tensor:
    maps = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    maps[:, row, column] = by
    return _affine(x, maps)


def _affine(x: Tensor, maps: Tensor) -> Tensor:
    """maps (n, 2, 3): from a place in the result to the place in x that it shows, in pixels from the corner. Between
    pixels values are interpolated and rounded; outside is black."""
    height, width = x.shape[2:]
    scale = torch.tensor([width, height], dtype=x.dtype, device=x.device)
    linear = maps[:, :, :2] * scale / scale[:, None]
    shift = (maps[:, :, :2] @ scale + 2 * maps[:, :, 2]) / scale - 1
    grid = F.affine_grid(torch.cat([linear, shift[..., None]], 2), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).round()
