"""Each operation against Pillow, and the mixture against a plain loop over images."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from irl.core.rng import Keys
from irl.noise import augmix


def pixels(count=6, height=20, width=24):
    """Smooth images, so that interpolation between pixels differs little."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / (3 + i) + c) * np.cos(y / (4 + c)) for i in range(count) for c in range(3)]
    return np.array(waves).reshape(count, 3, height, width).round().astype(np.uint8)


def pillow(name, image, level, sign):
    """The operation of the paper's code, with whole parameters where it has them."""
    width, height = image.size
    if name in ("autocontrast", "equalize"):
        return getattr(ImageOps, name)(image)
    if name == "posterize":
        return ImageOps.posterize(image, 4 - int(level * 4))
    if name == "solarize":
        return ImageOps.solarize(image, 256 - int(level * 256))
    if name == "rotate":
        return image.rotate(sign * int(level * 30), resample=Image.Resampling.BILINEAR)
    matrix = {
        "shear_x": (1, sign * level * 0.3, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * level * 0.3, 1, 0),
        "translate_x": (1, 0, sign * int(level * width / 3), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * int(level * height / 3)),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


@pytest.mark.parametrize("operation", augmix.OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_are_pillows(operation):
    images = pixels()
    levels, signs = torch.tensor([0.01, 0.1, 0.3, 0.55, 0.8, 0.99]), torch.tensor([1.0, -1, 1, -1, 1, -1])
    found = operation(torch.from_numpy(images).float(), levels, signs).numpy()
    for image, level, sign, ours in zip(images, levels.tolist(), signs.tolist(), found):
        expected = np.asarray(pillow(operation.__name__, Image.fromarray(image.transpose(1, 2, 0)), level, sign))
        away = np.abs(ours.transpose(1, 2, 0) - expected)
        if operation.__name__.startswith(("rotate", "shear")):
            # At the border Pillow repeats the last pixel where ours fades into black.
            inside = (expected > 0).all(-1)
            inside[[0, -1]] = inside[:, [0, -1]] = False
            inner = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
            assert inner.mean() > 0.4 and away[1:-1, 1:-1][inner].max() <= 1
        else:
            assert away.max() <= (1 if operation.__name__ == "autocontrast" else 0)


def test_the_mixture_is_a_plain_loops():
    x, strength = torch.from_numpy(pixels(40, 12, 12)).float(), 0.3
    drawn = augmix.draw(Keys(range(40), 1, "noise"))
    found = augmix.apply(x, drawn, strength)
    lengths = set()
    for i, u in enumerate(drawn.tolist()):
        share, chains = u[0], np.array(u[1:]).reshape(3, -1)
        weights = -np.log1p(-chains[:, 0])
        mixed = torch.zeros_like(x[i])
        for weight, chain in zip(weights / weights.sum(), chains):
            image, length = x[i : i + 1], 1 + math.floor(3 * chain[1])
            lengths.add(length)
            for which, level, sign in chain[2:].reshape(3, 3)[:length]:
                level, sign = torch.tensor([0.01 + level * (strength - 0.01)]).float(), -1.0 if sign > 0.5 else 1.0
                image = augmix.OPERATIONS[math.floor(9 * which)](image, level, torch.tensor([sign]))
            mixed += weight * image[0]
        torch.testing.assert_close(found[i], (1 - share) * x[i] + share * mixed, rtol=0, atol=1e-3)
    assert lengths == {1, 2, 3}


def test_draws_belong_to_an_image_and_leave_it_as_it_is():
    x = torch.from_numpy(pixels(8)).float()
    before = x.clone()
    keys = lambda ids: Keys(ids, 1, "noise", 2)  # noqa: E731
    together = augmix.apply(x, augmix.draw(keys(range(8))), 0.3)
    assert torch.equal(x, before) and 0 <= float(together.min()) and float(together.max()) <= 255
    alone = augmix.apply(x[3:4], augmix.draw(keys([3])), 0.3)
    torch.testing.assert_close(alone, together[3:4], rtol=0, atol=1e-3)
    assert (together - x).abs().flatten(1).mean(1).min() > 0.1


def test_the_largest_draws_make_an_image():
    """Weights are logarithms of draws, of which none may be 1."""
    x = torch.from_numpy(pixels(2)).float()

    class Largest:
        def sub(self, name):
            return self

        def uniform(self, count):
            return torch.full((2, count), 1 - 2.0**-32, dtype=torch.float64)

    drawn = augmix.draw(Largest())
    assert float(drawn.max()) < 1 and bool(augmix.apply(x, drawn, 0.3).isfinite().all())


def test_weights_are_flat_dirichlet_and_shares_uniform():
    """By their means and variances: 1/3 and 1/18, 1/2 and 1/12."""
    drawn = augmix.draw(Keys(range(50_000), 0))
    share, rest = drawn[:, 0], drawn[:, 1:].unflatten(1, (3, -1))
    weights = -torch.log1p(-rest[..., 0])
    weights = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(weights.mean(0), torch.full((3,), 1 / 3), rtol=0, atol=0.005)
    torch.testing.assert_close(weights.var(0), torch.full((3,), 1 / 18), rtol=0, atol=0.002)
    assert abs(float(share.mean()) - 0.5) < 0.006 and abs(float(share.var()) - 1 / 12) < 0.002
