import numpy as np
import pytest

from irl.core.errors import UserError
from irl.noise.corruptions import CORRUPTIONS, PUBLISHED, SEVERITIES, digest, read


def photo(count=3, size=16):
    """Smooth images, on which blur and JPEG do little at first."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(0, 2, (count * 3, 3))]
    return (127 + 100 * np.array(waves).reshape(count, 3, size, size).transpose(0, 2, 3, 1)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_rise_and_images_keep_their_form(name):
    pytest.importorskip("scipy")
    images, numbers = photo(), np.arange(3)
    before = images.copy()
    moved = []
    for severity in range(1, SEVERITIES + 1):
        found = CORRUPTIONS[name](images, severity, numbers)
        assert found.shape == images.shape and found.dtype == np.uint8
        assert (found == CORRUPTIONS[name](images, severity, numbers)).all()
        moved.append(np.abs(found.astype(float) - images).mean())
    assert (images == before).all() and 0 < moved[0] < moved[-1]


def test_noise_is_that_of_the_image_and_of_its_size():
    images = np.full((4, 32, 32, 3), 128, np.uint8)
    found = CORRUPTIONS["gaussian_noise"](images, 5, np.array([7, 8, 9, 7]))
    assert (found[0] == found[3]).all() and (found[0] != found[1]).any()
    assert (found / 255.0 - 128 / 255).std() == pytest.approx(0.10, rel=0.05)
    # The same image in another batch.
    assert (CORRUPTIONS["gaussian_noise"](images[:1], 5, np.array([9])) == found[2]).all()


def test_folders_in_the_published_layout(tmp_path):
    labels = np.array([2, 0, 1])
    images = np.random.default_rng(0).integers(0, 256, (15, 4, 4, 3), dtype=np.uint8)
    pixels = images[:3]
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    found = read(tmp_path, pixels, labels)
    assert list(found) == ["fog"] and (found["fog"] == images.reshape(5, 3, 4, 4, 3)).all()
    with pytest.raises(UserError, match="labels.npy: not the labels of this test set"):
        read(tmp_path, pixels, labels[::-1])
    for other in (pixels[:2], pixels[:, :2]):
        with pytest.raises(UserError, match=r"fog.npy: expected 8-bit images .*, found uint8 \[15, 4, 4, 3\]"):
            read(tmp_path, other, labels[: len(other)])
    for name in PUBLISHED | {"spatter", "saturate"}:
        np.save(tmp_path / f"{name}.npy", images)
    assert set(read(tmp_path, pixels, labels)) == PUBLISHED and len(PUBLISHED) == 15, "as in published means"
    (tmp_path / "zoom_blur.npy").unlink()
    assert len(read(tmp_path, pixels, labels)) == 16
    for path in tmp_path.glob("*.npy"):
        if path.stem not in ("fog", "labels"):
            path.unlink()
    whole = digest(tmp_path)
    np.save(tmp_path / "snow.npy", images)
    assert digest(tmp_path) != whole
    (tmp_path / "snow.npy").unlink()
    for damaged in (b"nothing", b""):
        (tmp_path / "fog.npy").write_bytes(damaged)
        with pytest.raises(UserError, match="fog.npy: damaged"):
            read(tmp_path, pixels, labels)
    with pytest.raises(UserError, match=r"no corruption \(NAME.npy\) is there"):
        read(tmp_path / "none", pixels, labels)
