"""Folders of images as manifests."""

import numpy as np
import pytest
from PIL import Image

from tuplet.data import read_manifest
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


def test_files_that_are_not_images_are_all_named(tmp_path):
    for number in range(25):
        path = tmp_path / "a" / f"note-{number:02}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("not an image")
    draw(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "empty.png").touch()
    with pytest.raises(DataError) as error:
        read_manifest(tmp_path)
    message = error.value.message
    assert "26 faults" in message
    assert "a/empty.png is not an image" in message
    assert "a/note-18.txt" in message
    assert "a/note-19.txt" not in message  # twenty are shown
    assert message.endswith("... and 6 more")
    assert error.value.reference == "broken-image"


def test_files_cut_short_are_named_beside_those_that_are_no_images(tmp_path):
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
    assert error.value.message.splitlines()[1:] == [
        "  a/cut.jpg is cut short",
        "  a/cut.png is cut short",
        "  a/note.txt is not an image",
    ]


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
