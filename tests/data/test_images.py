import hashlib
import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_images import made, parquet, same

from irl.core.errors import UserError
from irl.data import images
from irl.data.image_parquet import from_parquet
from irl.data.images import Images, balanced, from_folder, from_torchvision, read, split, write


def test_what_is_written_is_read(tmp_path):
    data = made(7)
    write(tmp_path / "a.npz", data)
    assert same(read(tmp_path / "a.npz"), data) and read(tmp_path / "a.npz").digest() == data.digest()
    assert data.rows(slice(1, 3)).digest() != data.digest()


def test_pixels_are_mapped_and_the_file_stays(tmp_path):
    path = tmp_path / "a.npz"
    write(path, made(7))
    before = path.read_bytes()
    found = read(path)
    assert not found.images.flags.owndata and found.images.flags.writeable
    found.images[:] = 0
    assert path.read_bytes() == before and same(read(path), made(7))


def test_damaged_sets_are_one_line(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="a.npz: no such set of images"):
        read(path)
    write(path, made(7))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="a.npz: damaged"):
        read(path)
    # A pixel that is not what was written; a set of an archiver that compresses, and one of objects.
    write(path, made(7))
    content = bytearray(path.read_bytes())
    place = content.index(made(7).images.tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="a.npz: damaged"):
        read(path)
    # A header that promises more pixels than there are.
    write(path, made(7))
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as whole, zipfile.ZipFile(path, "w") as other:
        for name in whole.namelist():
            other.writestr(name, whole.read(name).replace(b"(7, 8, 8, 3)", b"(9, 8, 8, 3)"))
    with pytest.raises(UserError, match="a.npz: damaged"):
        read(path)
    data = made(7)
    np.savez_compressed(path, images=data.images, labels=data.labels, numbers=data.numbers, classes=data.classes)
    with pytest.raises(UserError, match="a.npz: damaged"):
        read(path)
    np.savez(path, images=np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="a.npz: damaged"):
        read(path)
    data = made(4)
    data.labels[2] = 9
    write(path, data)
    with pytest.raises(UserError, match="a.npz: image 2: label 9, expected 0 to 2"):
        read(path)


def test_folder(tmp_path):
    data = made(6)
    for i, image in enumerate(data.images):
        path = tmp_path / "train" / data.classes[data.labels[i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    found = from_folder(tmp_path / "train")
    order = np.argsort(data.labels, kind="stable")
    assert found.classes == data.classes and (found.labels == data.labels[order]).all()
    assert (found.images == data.images[order]).all()
    with pytest.raises(UserError, match="c2: is no class of the training set"):
        from_folder(tmp_path / "train", ["c0", "c1"])
    with pytest.raises(UserError, match="c3: no such folder"):
        from_folder(tmp_path / "train", ["c0", "c1", "c2", "c3"])
    (tmp_path / "train" / "c0" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="0.png: not an image"):
        from_folder(tmp_path / "train")


def test_archives_are_checked(tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(UserError, match="neither cifar-10-python.tar.gz nor cifar-10-batches-py is there"):
        from_torchvision("cifar10", tmp_path, True)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"something else")
    wrong = hashlib.md5(b"something else").hexdigest()
    with pytest.raises(
        UserError, match=f"cifar-10-python.tar.gz: MD5 sum {wrong}, published is c58f30108f718f92721af3b95"
    ):
        from_torchvision("cifar10", tmp_path, True)


def cifar_archive(folder, monkeypatch):
    """A tree like CIFAR-10's, whose sums torchvision is told."""
    import pickle

    import torchvision

    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    data = made(12, classes=10, size=32)
    rows = data.images.transpose(0, 3, 1, 2).reshape(12, -1)
    sums = {}
    for name, part in (("data_batch_1", slice(0, 8)), ("test_batch", slice(8, 12))):
        content = pickle.dumps({"data": rows[part], "labels": data.labels[part].tolist()})
        (root / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({"label_names": data.classes})
    (root / "batches.meta").write_bytes(meta)
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return data


def test_cifar_from_a_directory(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    data = cifar_archive(tmp_path, monkeypatch)
    train, test = (from_torchvision("cifar10", tmp_path, part) for part in (True, False))
    assert (train.images == data.images[:8]).all() and (test.labels == data.labels[8:]).all()
    assert train.classes == data.classes
    # A batch that is not what was published is never unpickled.
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="not found or corrupted"):
        from_torchvision("cifar10", tmp_path, True)


def test_dev_is_the_end_of_training():
    data = made(20)
    train, dev = split(data, 5, 10)
    assert train.numbers.tolist() == list(range(10)) and dev.numbers.tolist() == list(range(15, 20))
    assert len(split(data, 5)[0]) == 15
    with pytest.raises(UserError, match="20 training images are too few for 16 in training and 5 in dev"):
        split(data, 5, 16)


def test_a_set_sorted_by_class_leaves_no_class_out():
    labels = np.append(np.sort(np.arange(60) % 4), [4, 4])
    pixels = np.random.default_rng(0).integers(0, 256, (62, 4, 4, 3), dtype=np.uint8)
    data = Images(pixels, labels, np.arange(62), list("abcde"))
    draws = np.random.default_rng(1).random(len(data))
    train, dev = split(data, 6, 20, draws)
    for part in (train, dev):
        assert set(part.labels.tolist()) == set(data.labels.tolist())
    assert len(dev) == 6 and len(train) == 20 and not set(dev.numbers) & set(train.numbers)
    assert same(split(data, 6, 20, draws)[1], dev)
    assert not same(split(data, 6, 20, draws[::-1])[1], dev)
    # What has all classes where it is cut stays as it is, and a dev set that is too small for all classes too.
    assert split(made(60), 6, 0, draws)[1].numbers.tolist() == list(range(54, 60))
    assert split(made(9), 2, 0)[1].numbers.tolist() == [7, 8]


def test_photographs_are_turned_as_they_say(tmp_path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0] = 255
    folder = tmp_path / "c0"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright).copy()).save(folder / "a.png", exif=exif)
    Image.fromarray(upright).save(folder / "b.png")
    found = from_folder(tmp_path).images
    assert found.shape == (2, 4, 6, 3) and (found[0] == found[1]).all()


@given(each=st.integers(1, 4), classes=st.integers(1, 5), seed=st.integers(0, 99))
def test_labels_are_balanced_and_a_function_of_their_draws(each, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), 5))
    draws = rng.random(len(labels))
    chosen = balanced(labels, each * classes, draws)
    assert np.bincount(labels[chosen], minlength=classes).tolist() == [each] * classes
    assert (np.diff(chosen) > 0).all()
    for name in range(classes):
        own = labels == name
        assert draws[chosen][labels[chosen] == name].max() <= np.sort(draws[own])[each - 1]


def test_labels_beyond_a_class_are_refused():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(ValueError, match="labels 4 asks for 2 of each class, but class 1 has 1 images"):
        balanced(labels, 4, np.zeros(4))
    with pytest.raises(ValueError, match="a multiple of the 2 classes, got 3"):
        balanced(labels, 3, np.zeros(4))


def test_wrong_shapes_are_refused():
    data = made(2)
    with pytest.raises(UserError, match=r"here: expected 8-bit images of shape \(N, H, W, 3\), found float64"):
        images.check(Images(data.images / 1.0, data.labels, data.numbers, data.classes), "here")


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two images."""
    for i, image in enumerate(made(4).images):
        path = tmp_path / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "train"


@pytest.mark.parametrize(
    "name, message",
    [
        ("c/", "c: a class without an image; expected .png"),
        ("a/x.gif", "a/x.gif: an image of a form that is not read; expected .png"),
        ("a/x.tiff", "a/x.tiff: an image of a form that is not read"),
        ("a/more/x.png", "a/more: a folder in the folder of a class"),
        ("c/readme.txt", "c: a class without an image"),
    ],
)
def test_no_image_is_left_out_without_a_word(pictures, name, message):
    path = pictures / name
    (path if name.endswith("/") else path.parent).mkdir(exist_ok=True)
    if not name.endswith("/"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        from_folder(pictures)


def test_what_is_left_out_is_named(pictures, caplog):
    before = from_folder(pictures)
    (pictures / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/x.png", "a/.x.png", "a/notes.txt", "list.csv"):
        (pictures / name).write_bytes(b"x")
    assert same(from_folder(pictures), before)
    assert caplog.messages == [
        f"{pictures}: 1 hidden entries left out, such as .ipynb_checkpoints",
        f"{pictures}: 1 files in no folder of a class left out, such as list.csv",
        f"{pictures / 'a'}: 1 hidden entries left out, such as .x.png",
        f"{pictures / 'a'}: 1 files that are no images left out, such as notes.txt",
    ]


def test_ppm_is_read(pictures):
    before = from_folder(pictures)
    Image.open(pictures / "a" / "0.png").save(pictures / "a" / "0.ppm")
    (pictures / "a" / "0.png").unlink()
    assert same(from_folder(pictures), before)


def test_no_program_decodes_an_image(pictures, tmp_path, monkeypatch):
    """Pillow starts Ghostscript on an EPS, whatever its name is."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    (pictures / "a" / "z.png").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="z.png: not an image of a form that is read: PNG, JPEG"):
        from_folder(pictures)
    pytest.importorskip("pyarrow")
    path = parquet(tmp_path / "x.parquet", [{"bytes": buffer.getvalue(), "path": "z.png"}], [0])
    with pytest.raises(UserError, match="x.parquet: row 0: not an image of a form that is read"):
        from_parquet(path, ["a"])
    assert not (tmp_path / "ran").exists()


def test_pipes_and_large_images_are_refused(pictures):
    os.mkfifo(pictures / "a" / "x.png")
    with pytest.raises(UserError, match="x.png: no plain file, expected an image"):
        from_folder(pictures)
    (pictures / "a" / "x.png").unlink()
    Image.new("1", (5000, 5000)).save(pictures / "a" / "x.png")
    with pytest.raises(UserError, match="x.png: 5000x5000 pixels, expected a small image"):
        from_folder(pictures)
