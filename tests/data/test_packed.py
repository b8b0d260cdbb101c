"""Packed collections: saved by datasets, Parquet with files in it, shards of webdataset."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tuplet.data import Columns, ImagePreprocessing, load_dataset, read_manifest
from tuplet.errors import DataError

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def picture(value, kind="PNG"):
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(held, kind)
    return held.getvalue()


def rows(count, first=0):
    images = [{"bytes": picture(10 * (first + at)), "path": None} for at in range(count)]
    return pa.table({"image": images, "label": [at % 2 for at in range(count)]})


def described(table):
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def shard(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in examples:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def saved_by_datasets(folder):
    for split, first in (("train", 0), ("test", 4)):
        (folder / split).mkdir(parents=True)
        table = rows(4, first)
        place = str(folder / split / "data-00000-of-00001.arrow")
        with pa.OSFile(place, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        (folder / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
        (folder / split / "state.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


def folder_of_parquet(folder):
    (folder / "data").mkdir(parents=True)
    for split, first in (("train", 0), ("test", 4)):
        pq.write_table(described(rows(4, first)), folder / "data" / f"{split}-00000-of-00001.parquet")


def shards(folder):
    for split, first in (("train", 0), ("test", 4)):
        examples = []
        for at in range(4):
            examples += [
                (f"{at:04d}.png", picture(10 * (first + at))),
                (f"{at:04d}.cls", b"cat" if at % 2 == 0 else b"dog"),
            ]
            examples += [(f"{at:04d}.json", json.dumps({"place": f"p{at % 3}"}).encode())]
        shard(folder / f"{split}-000000.tar", examples)


WRITERS = {"datasets": saved_by_datasets, "parquet": folder_of_parquet, "webdataset": shards}


@pytest.mark.parametrize("name", WRITERS)
def test_files_classes_and_splits_are_those_that_were_packed(tmp_path, name):
    WRITERS[name](tmp_path / "c")
    manifest = read_manifest(tmp_path / "c", cache=tmp_path / "cache")
    assert (manifest.kind, len(manifest), manifest.class_names) == ("image", 8, ("cat", "dog"))
    pixels = load_dataset(manifest, ImagePreprocessing(8)).inputs[:, 0, 0, 0]
    order = np.argsort(pixels.numpy())
    assert pixels[order].tolist() == [10 * at for at in range(8)]
    assert [manifest.class_names[manifest.labels[at]] for at in order] == ["cat", "dog"] * 4
    assert [manifest.splits[at] for at in order] == ["train"] * 4 + ["test"] * 4
    assert manifest.source == str(tmp_path / "c")


def test_it_is_unpacked_once_and_again_when_it_changes(tmp_path):
    shards(tmp_path / "c")
    first = read_manifest(tmp_path / "c", cache=tmp_path / "cache")
    assert read_manifest(tmp_path / "c", cache=tmp_path / "cache").items == first.items
    shard(tmp_path / "c" / "train-000001.tar", [("0.png", picture(99)), ("0.cls", b"cow")])
    assert len(read_manifest(tmp_path / "c", cache=tmp_path / "cache")) == 9


def test_without_a_cache_files_stay_as_long_as_they_are_used(tmp_path):
    shards(tmp_path / "c")
    part = read_manifest(tmp_path / "c").part("train")
    places = part.items
    assert load_dataset(part, ImagePreprocessing(8)).inputs.shape[0] == 4
    del part
    assert not any(place.exists() for place in places)


def test_columns_are_named_as_those_of_any_table(tmp_path):
    shards(tmp_path / "c")
    manifest = read_manifest(tmp_path / "c", columns=Columns(label="place"))
    assert manifest.class_names == ("p0", "p1", "p2")


def test_one_file_of_parquet_may_hold_pictures(tmp_path):
    pq.write_table(rows(4), tmp_path / "one.parquet")
    manifest = read_manifest(tmp_path / "one.parquet")
    assert (manifest.kind, manifest.class_names) == ("image", ("0", "1"))


def test_texts_need_no_files(tmp_path):
    (tmp_path / "c").mkdir()
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), tmp_path / "c" / "train-0.parquet")
    pq.write_table(pa.table({"text": ["c", "d"], "label": ["x", "y"]}), tmp_path / "c" / "test-0.parquet")
    manifest = read_manifest(tmp_path / "c")
    assert (manifest.kind, sorted(manifest.items)) == ("text", ["a", "b", "c", "d"])


DAMAGED = {
    "cut-short.tar": slice(0, 5000),
    "between.tar": slice(0, 2048),
    "empty.tar": slice(0, 0),
    "other.parquet": slice(0, 300),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_message(tmp_path, name):
    shards(tmp_path / "c")
    content = (tmp_path / "c" / "train-000000.tar").read_bytes()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_bytes(content[DAMAGED[name]])
    with pytest.raises(DataError) as refused:
        read_manifest(tmp_path / "d", cache=tmp_path / "cache")
    assert refused.value.reference in ("damaged-archive", "empty-source", "broken-image")
    assert not list((tmp_path / "cache").rglob("table.parquet"))


def test_names_of_members_lead_nowhere_else(tmp_path):
    shard(tmp_path / "c" / "a.tar", [("../../out.png", picture(3)), ("../../out.cls", b"x"), ("/b.png", picture(4))])
    manifest = read_manifest(tmp_path / "c", cache=tmp_path / "cache", columns=Columns(label=None))
    assert len(manifest) == 2
    assert not list(tmp_path.parent.glob("out.png"))
    assert all(item.resolve().is_relative_to(tmp_path / "cache") for item in manifest.items)
