"""Folders of images as manifests."""

import os
import sys
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from tuplet.data import ImagePreprocessing, load_dataset, read_manifest
from tuplet.errors import DataError


def draw(path, shade=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


def test_class_folders_give_sorted_classes_and_files(tmp_path):
    for name in ("b/2.png", "b/10.jpg", "a/x.bmp", "c/deep/1.gif"):
        draw(tmp_path / name)
    manifest = read_manifest(tmp_path)
    assert manifest.kind == "image"
    assert manifest.ids == ("a/x.bmp", "b/10.jpg", "b/2.png", "c/deep/1.gif")
    assert manifest.class_names == ("a", "b", "c/deep")
    assert manifest.labels.tolist() == [0, 1, 1, 2]
    assert manifest.splits is None
    assert manifest.items[0] == tmp_path / "a" / "x.bmp"


def test_hidden_files_and_folders_are_skipped(tmp_path):
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"junk")
    draw(tmp_path / ".thumbs" / "1.png")
    assert read_manifest(tmp_path).ids == ("a/1.png",)


def test_split_folders_are_splits(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "val/c/1.png", "test/d/e/1.png"):
        draw(tmp_path / name)
    manifest = read_manifest(tmp_path)
    assert manifest.splits == ("test", "train", "train", "validation")
    assert manifest.class_names == ("a", "b", "c", "d/e")
    assert manifest.part("train").ids == ("train/a/1.png", "train/b/2.png")


def test_a_class_called_test_is_a_class(tmp_path):
    draw(tmp_path / "test" / "1.png")
    draw(tmp_path / "other" / "1.png")
    manifest = read_manifest(tmp_path)
    assert manifest.class_names == ("other", "test")
    assert manifest.splits is None


def test_images_without_class_folders_have_no_labels(tmp_path):
    draw(tmp_path / "1.png")
    assert read_manifest(tmp_path).labels is None
    with pytest.raises(DataError, match="no image is in a class folder") as error:
        read_manifest(tmp_path, needs=["label"])
    assert "CLASS/FILE" in error.value.hint


def test_images_beside_class_folders_have_no_class(tmp_path):
    draw(tmp_path / "1.png")
    draw(tmp_path / "a" / "1.png")
    assert read_manifest(tmp_path).labels.tolist() == [-1, 0]


def test_links_are_followed_and_loops_are_not(tmp_path):
    draw(tmp_path / "elsewhere" / "1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(root)
    assert read_manifest(root).ids == ("a/1.png",)


def test_broken_images_are_all_named(tmp_path):
    for number in range(25):
        path = tmp_path / "a" / f"photo-{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text("not an image")
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "a" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError) as error:
        read_manifest(tmp_path)
    message = error.value.message
    assert "27 problems" in message
    assert "a/empty.png is empty" in message
    assert "a/phone.HEIC is of a format that is not read" in message
    assert "a/photo-17.png" in message
    assert "a/photo-18.png" not in message  # twenty are shown
    assert message.endswith("... and 7 more")
    assert error.value.reference == "broken-image"
    assert "--skip-broken" in error.value.hint
    assert error.value.hint.count("\n") == 0


def test_files_cut_short_are_named_and_stray_ones_left_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    for suffix in ("png", "jpg", "gif", "bmp"):
        Image.fromarray(noise).save(tmp_path / "a" / f"whole.{suffix}")
    for suffix in ("png", "jpg"):
        whole = (tmp_path / "a" / f"whole.{suffix}").read_bytes()
        (tmp_path / "a" / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "a" / f"more.{suffix}").write_bytes(whole + bytes(100))  # what follows the end is harmless
    (tmp_path / "a" / "note.txt").write_text("not an image")
    with pytest.raises(DataError) as error:
        read_manifest(tmp_path)
    assert error.value.message.splitlines()[1:] == ["  a/cut.jpg is cut short", "  a/cut.png is cut short"]
    manifest = read_manifest(tmp_path, skip_broken=True)
    assert manifest.ids == ("a/more.jpg", "a/more.png", "a/whole.bmp", "a/whole.gif", "a/whole.jpg", "a/whole.png")
    assert [name for name, _ in manifest.left_out] == ["a/cut.jpg", "a/cut.png", "a/note.txt"]


def test_what_systems_leave_in_folders_does_not_stop_a_reading(tmp_path):
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    (tmp_path / "a" / "desktop.ini").write_text("[ViewState]")
    (tmp_path / "a" / "Icon\r").touch()
    (tmp_path / "BMW models.txt").write_text("BM is how a bitmap starts, too")
    draw(tmp_path / "a" / "@eaDir" / "1.png" / "SYNOPHOTO_THUMB_M.jpg")
    draw(tmp_path / "__MACOSX" / "a" / "2.png")
    (tmp_path / "a" / "loop").symlink_to("loop")
    manifest = read_manifest(tmp_path)
    assert manifest.ids == ("a/1.png",)
    expected = ["BMW models.txt", "__MACOSX", "a/@eaDir", "a/Icon\r", "a/Thumbs.db", "a/desktop.ini", "a/loop"]
    assert [name for name, _ in manifest.left_out] == expected
    assert len(manifest.notes) == 1
    assert "7 files" in manifest.notes[0]
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(DataError, match="no images, only") as error:
        read_manifest(tmp_path)
    assert error.value.reference == "empty-source"


def test_images_that_cannot_be_decoded_are_left_out_if_asked_for(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for name in ("a/1.png", "a/2.png", "b/1.bmp", "b/2.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / name)
    torn = bytearray((tmp_path / "a" / "2.png").read_bytes())
    torn[len(torn) // 2] ^= 0xFF  # whole to the eye; only decoding tells
    (tmp_path / "a" / "2.png").write_bytes(torn)
    (tmp_path / "b" / "2.bmp").write_bytes((tmp_path / "b" / "2.bmp").read_bytes()[:2000])
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    manifest = read_manifest(tmp_path, skip_broken=True)
    assert manifest.ids == ("a/1.png", "b/1.bmp")
    assert [name for name, _ in manifest.left_out] == ["a/2.png", "b/2.bmp", "b/gone.png"]
    assert all(why for _, why in manifest.left_out)


@pytest.mark.parametrize(
    ("names", "splits", "classes"),
    [
        (["eval/cat/1.png", "train/cat/1.png"], ("test", "train"), ("cat",)),
        (["dev/cat/1.png", "eval/cat/1.png"], ("validation", "test"), ("cat",)),
        (["eval/cat/1.png", "test/cat/1.png", "train/cat/1.png"], ("validation", "test", "train"), ("cat",)),
        (["gallery/1/1.png", "query/1/1.png", "train/2/1.png"], ("test", "test", "train"), ("1", "2")),
        (["cat/test/1.png", "cat/train/1.png", "dog/train/1.png"], ("test", "train", "train"), ("cat", "dog")),
        (["images/test/cat/1.png", "images/train/cat/1.png"], ("test", "train"), ("cat",)),
        (["Test/cat/1.png", "Training/cat/1.png"], ("test", "train"), ("cat",)),
        (["test/1.png", "train/1.png"], ("test", "train"), ()),
        (["other/b/1.png", "test/a/1.png"], None, ("other/b", "test/a")),
        (["photos/cat/1.png", "photos/dog/1.png"], None, ("photos/cat", "photos/dog")),
    ],
)
def test_folders_called_like_splits_or_roles_are_no_classes(tmp_path, names, splits, classes):
    for name in names:
        draw(tmp_path / name)
    manifest = read_manifest(tmp_path)
    assert manifest.ids == tuple(names)
    assert manifest.splits == splits
    assert manifest.class_names == classes


@pytest.mark.parametrize(
    "names",
    [
        ["extra/cat/1.png", "train/cat/1.png"],
        ["extra/dog/1.png", "test/cat/1.png", "train/cat/1.png"],
        ["cover.png", "test/cat/1.png", "train/cat/1.png"],
    ],
)
def test_folders_of_which_only_some_are_called_like_splits_are_refused(tmp_path, names):
    for name in names:
        draw(tmp_path / name)
    with pytest.raises(DataError) as error:
        read_manifest(tmp_path)
    assert error.value.reference == "unknown-split"


def test_class_names_are_equal_in_both_forms_of_unicode(tmp_path):
    for split, form in ("test", "NFD"), ("train", "NFC"):
        draw(tmp_path / split / normalize(form, "café") / "1.png")
    manifest = read_manifest(tmp_path)
    assert manifest.class_names == ("café",)
    assert manifest.labels.tolist() == [0, 0]


def test_a_folder_called_nan_is_no_class_and_is_reported(tmp_path):
    for name in ("nan/1.png", "nan/2.png", "cat/1.png"):
        draw(tmp_path / name)
    manifest = read_manifest(tmp_path)
    assert manifest.class_names == ("cat",)
    assert manifest.labels.tolist() == [0, -1, -1]
    assert len(manifest.notes) == 1
    assert "'nan'" in manifest.notes[0]
    assert "2 images" in manifest.notes[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8_are_written_with_escapes(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Image.new("L", (8, 8), 9).save(folder / os.fsdecode(b"\xff.png"))
    manifest = read_manifest(tmp_path)
    assert manifest.ids == (r"caf\xe9/\xff.png",)
    assert manifest.class_names == (r"caf\xe9",)
    dataset = load_dataset(manifest, ImagePreprocessing(8, 1), cache=tmp_path / "cache")
    assert dataset.inputs.unique().tolist() == [9]
    assert (tmp_path / "cache").exists()


def test_an_empty_folder_and_a_missing_one_are_explained(tmp_path):
    with pytest.raises(DataError, match="holds no files") as error:
        read_manifest(tmp_path)
    assert error.value.reference == "empty-source"
    with pytest.raises(DataError, match="no such file or folder") as error:
        read_manifest(tmp_path / "nowhere")
    assert error.value.reference == "missing-file"
    assert error.value.exit_code == 3
    (tmp_path / "data.xyz").write_text("?")
    with pytest.raises(DataError, match="no known kind"):
        read_manifest(tmp_path / "data.xyz")


def test_taking_keeps_class_ids_and_order(tmp_path):
    for name in ("a/1.png", "b/1.png", "c/1.png"):
        draw(tmp_path / name)
    taken = read_manifest(tmp_path).take(np.array([2, 0]))
    assert taken.ids == ("c/1.png", "a/1.png")
    assert taken.labels.tolist() == [2, 0]
    assert taken.class_names == ("a", "b", "c")
    assert len(taken.items) == len(taken) == 2


def test_folders_called_query_and_gallery_say_who_asks(tmp_path):
    for name in ("train/a/0.png", "train/b/1.png", "query/c/2.png", "gallery/c/3.png", "gallery/d/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    manifest = read_manifest(tmp_path)
    roles = dict(zip(manifest.ids, manifest.roles, strict=True))
    expected = {"train/a/0.png": "", "train/b/1.png": "", "query/c/2.png": "query"}
    assert roles == expected | {"gallery/c/3.png": "gallery", "gallery/d/4.png": "gallery"}
    assert dict(zip(manifest.ids, manifest.splits, strict=True))["query/c/2.png"] == "test"
    assert [manifest.take([2]).roles, manifest.part("train").roles] == [(manifest.roles[2],), ("", "")]
