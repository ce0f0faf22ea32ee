"""Sets of images in parquet, as published ones are."""

import json

import numpy as np
import pytest
from small_images import cells_of, made, parquet, png, same

from irl.core.errors import UserError
from irl.data.image_parquet import from_parquet, label_column, whole_set

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet(tmp_path, column):
    data = made(6)
    path = parquet(tmp_path / "train-0.parquet", cells_of(data), data.labels.tolist(), column)
    assert same(from_parquet(path, data.classes), data) and same(from_parquet(tmp_path, data.classes), data)


def test_bad_parquet_names_the_row(tmp_path):
    data, path = made(4), tmp_path / "x.parquet"
    cells, labels = cells_of(data), data.labels.tolist()
    broken = [*cells[:2], {"bytes": cells[2]["bytes"][:20], "path": ""}, cells[3]]
    with pytest.raises(UserError, match="x.parquet: row 2: not an image"):
        from_parquet(parquet(path, broken, labels), data.classes)
    with pytest.raises(UserError, match="x.parquet: row 3: label 7, expected 0 to 2"):
        from_parquet(parquet(path, cells, [0, 1, 2, 7]), data.classes)
    with pytest.raises(UserError, match="x.parquet: row 1: label -1"):
        from_parquet(parquet(path, cells, [0, -1, 2, 1]), data.classes)
    with pytest.raises(UserError, match="x.parquet: row 0: expected img.bytes, found none"):
        from_parquet(parquet(path, [{"bytes": None, "path": "a"}, *cells[1:]], labels), data.classes)
    with pytest.raises(UserError, match="expected columns img and label, found pixels, label"):
        from_parquet(parquet(path, cells, labels, "pixels"), data.classes)
    small = {"bytes": png(np.zeros((4, 8, 3), np.uint8)), "path": ""}
    with pytest.raises(UserError, match="row 3: 8x4, the images before it are 8x8"):
        from_parquet(parquet(path, [*cells[:3], small], labels), data.classes)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="x.parquet: not a parquet file"):
        from_parquet(path, data.classes)
    with pytest.raises(UserError, match="no such file"):
        from_parquet(tmp_path / "none.parquet", data.classes)


def test_columns_and_classes_of_published_parquet(tmp_path):
    data, path = made(4), tmp_path / "train-00000-of-00002.parquet"
    columns = {"img": cells_of(data), "fine_label": data.labels.tolist(), "coarse_label": [0, 1, 1, 0]}
    features = {"fine_label": {"names": data.classes}, "coarse_label": {"names": ["x", "y"]}}
    schema = pyarrow.table(columns).schema.with_metadata(
        {"a": b"\xff", "b": json.dumps({"info": {"features": features}})}
    )
    pyarrow.parquet.write_table(pyarrow.table(columns).cast(schema), path)
    assert label_column(path) == ("fine_label", data.classes) and label_column(path, "coarse_label")[1] == ["x", "y"]
    assert same(from_parquet(path, data.classes, "fine_label"), data)
    assert from_parquet(path, ["x", "y"], "coarse_label").labels.tolist() == [0, 1, 1, 0]
    plain = parquet(tmp_path / "plain.parquet", cells_of(data), data.labels.tolist())
    assert label_column(plain) == ("label", [])
    with pytest.raises(UserError, match="label 2, expected 0 to 1; --classes names other classes"):
        from_parquet(plain, ["x", "y"])


def test_a_part_of_a_set_that_is_missing_is_named(tmp_path):
    parts = [tmp_path / f"train-{i:05d}-of-00003.parquet" for i in range(3)]
    assert whole_set(reversed(parts)) == parts and whole_set([tmp_path / "train-1-of-x.parquet"])
    with pytest.raises(UserError, match="train-00001-of-00003 is missing; train-00000-of-00003.parquet is one of 3"):
        whole_set([parts[0], parts[2]])
    data = made(3)
    parquet(parts[1], cells_of(data), data.labels.tolist())
    with pytest.raises(UserError, match="train-00000-of-00003 is missing"):
        from_parquet(tmp_path, data.classes)
