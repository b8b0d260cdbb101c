"""Saved arrays and their labels as manifests."""

import numpy as np
import pytest
import torch

from tuplet.data import ImagePreprocessing, VectorPreprocessing, load_dataset, read_manifest
from tuplet.errors import DataError


def error_of(path, **options):
    with pytest.raises(DataError) as error:
        read_manifest(path, **options)
    assert error.value.hint
    return error.value


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(12, dtype=np.float32).reshape(4, 3))
    return path


def test_rows_stay_on_disk_and_are_never_changed(rows):
    before = rows.read_bytes()
    manifest = read_manifest(rows)
    assert isinstance(manifest.items, np.memmap)
    dataset = load_dataset(manifest, VectorPreprocessing())
    assert dataset.inputs.data_ptr() == manifest.items.ctypes.data  # not copied
    dataset.inputs[0, 0] = 99.0
    assert rows.read_bytes() == before


def test_integer_labels_above_two_to_the_24_stay_exact(rows, tmp_path):
    np.save(tmp_path / "rows.labels.npy", np.array([2**62 + 1, 2**62, -1, 2**24 + 1]))
    manifest = read_manifest(rows)
    assert manifest.class_names == (str(2**24 + 1), str(2**62), str(2**62 + 1))
    assert manifest.labels.tolist() == [2, 1, -1, 0]
    assert manifest.labels.dtype == np.int64


def test_labels_that_are_not_numbers_are_missing(rows, tmp_path):
    np.save(tmp_path / "labels.npy", np.float64([2, np.nan, 1, 2]))
    manifest = read_manifest(rows)
    assert manifest.labels.tolist() == [1, -1, 0, 1]
    assert manifest.class_names == ("1", "2")


@pytest.mark.parametrize(
    "values", [np.uint64([2**63, 1, 1, 2**63]), np.float64([7, 3, 3, 7]), np.array([True, 0, 0, 1])]
)
def test_labels_of_other_number_types(rows, tmp_path, values):
    np.save(tmp_path / "labels.npy", values)
    assert read_manifest(rows).labels.tolist() == [1, 0, 0, 1]


def test_labels_as_text_of_several_kinds(rows, tmp_path):
    np.save(tmp_path / "names.npy", np.array(["b", "a", "b", ""]))
    (tmp_path / "names.txt").write_text("b\na\nb\n\n")
    (tmp_path / "names.csv").write_text("id,label,split\nw,b,train\nx,a,train\ny,b,test\nz,,test\n")
    for suffix in ("npy", "txt", "csv"):
        manifest = read_manifest(rows, labels=tmp_path / f"names.{suffix}")
        assert manifest.class_names == ("a", "b")
        assert manifest.labels.tolist() == [1, 0, 1, -1]
    assert manifest.ids == ("w", "x", "y", "z")
    assert manifest.splits == ("train", "train", "test", "test")


def test_graded_values_beside_the_rows(rows, tmp_path):
    np.save(tmp_path / "rows.targets.npy", np.array([0.5, 1.5, 2.5, 3.5]))
    assert read_manifest(rows).targets.tolist() == [[0.5], [1.5], [2.5], [3.5]]
    np.save(tmp_path / "rows.targets.npy", np.array([0.5, np.nan, 2.5, 3.5]))
    assert "row 1, column 0 of rows.targets.npy is nan" in error_of(rows).message


def test_series_and_images(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((5, 2, 7)))
    np.save(tmp_path / "flat.npy", np.zeros((5, 7)))
    np.save(tmp_path / "i.npy", np.zeros((5, 3, 8, 8), np.uint8))
    np.save(tmp_path / "last.npy", np.zeros((5, 8, 8, 3), np.uint8))
    np.save(tmp_path / "grey.npy", np.zeros((5, 8, 8), np.uint8))
    shapes = {
        ("s", None): ("series", (5, 2, 7)),
        ("flat", "series"): ("series", (5, 1, 7)),
        ("i", None): ("image", (5, 3, 8, 8)),
        ("last", None): ("image", (5, 3, 8, 8)),
        ("grey", "image"): ("image", (5, 1, 8, 8)),
    }
    for (name, kind), expected in shapes.items():
        manifest = read_manifest(tmp_path / f"{name}.npy", kind=kind)
        assert (manifest.kind, manifest.items.shape) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "expected", "notes"),
    [
        ((5, 28, 28), np.uint8, None, ("image", (5, 1, 28, 28)), 1),
        ((5, 28, 28), np.uint8, "series", ("series", (5, 28, 28)), 0),
        ((5, 20, 30), np.uint8, "image", ("image", (5, 1, 20, 30)), 0),
        ((5, 28, 28, 1), np.uint8, None, ("image", (5, 1, 28, 28)), 0),
        ((5, 3, 9, 9), np.uint16, None, ("image", (5, 3, 9, 9)), 0),
        ((5, 3, 100), np.uint8, None, ("series", (5, 3, 100)), 0),
        ((5, 1, 1), np.float32, None, ("series", (5, 1, 1)), 0),
        ((5, 16, 1000), np.int16, None, ("series", (5, 16, 1000)), 0),
        ((5, 12, 30), np.float32, None, ("series", (5, 12, 30)), 0),
        ((5, 100, 3), np.float32, "series", ("series", (5, 100, 3)), 0),
    ],
)
def test_axes_mean_what_their_sizes_say(tmp_path, shape, dtype, kind, expected, notes):
    np.save(tmp_path / "a.npy", np.ones(shape, dtype))
    manifest = read_manifest(tmp_path / "a.npy", kind=kind)
    assert (manifest.kind, manifest.items.shape) == expected
    assert len(manifest.notes) == notes


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "words"),
    [
        ((5, 100, 3), np.uint8, None, ["transpose(0, 2, 1)", "data.kind=series"]),
        ((5, 100, 3), np.float32, None, ["transpose(0, 2, 1)", "data.kind=series"]),
        ((5, 28, 28), np.float32, None, ["uint8", "data.kind=series"]),
        ((5, 32, 100), np.uint8, None, ["data.kind=image", "data.kind=series"]),
        ((5, 100, 32), np.uint8, None, ["data.kind=image", "transpose(0, 2, 1)", "data.kind=series"]),
        ((5, 3, 9, 3), np.uint8, None, ["data.kind=image"]),
    ],
)
def test_axes_that_may_mean_several_things_are_refused(tmp_path, shape, dtype, kind, words):
    np.save(tmp_path / "a.npy", np.ones(shape, dtype))
    error = error_of(tmp_path / "a.npy", kind=kind)
    assert error.reference == "ambiguous-array"
    assert all(word in error.hint for word in words)


def test_arrays_of_images_are_decoded_whatever_their_depth(tmp_path):
    pixels = np.arange(2 * 8 * 8, dtype=np.uint16).reshape(2, 8, 8) * 32
    np.save(tmp_path / "deep.npy", pixels)
    manifest = read_manifest(tmp_path / "deep.npy", kind="image")
    stored = load_dataset(manifest, ImagePreprocessing(8, 1).with_levels(manifest.items)).inputs
    assert stored[:, 0].numpy().tolist() == (pixels / 4064 * 255).round().tolist()


@pytest.mark.parametrize(
    ("labels", "reference", "text"),
    [
        (np.arange(3), "label-count", "4 rows, but 3 labels"),
        (np.zeros((4, 2), int), "bad-labels", "not one label per row"),
        (np.float32([0, 1, 2, 2**24]), "bad-labels", "too large for float32"),
        (np.float64([0.5, 1, 2, 3]), "bad-labels", "not whole numbers"),
    ],
)
def test_labels_that_do_not_fit(rows, tmp_path, labels, reference, text):
    np.save(tmp_path / "rows.labels.npy", labels)
    error = error_of(rows)
    assert text in error.message
    assert error.reference == reference


def test_values_that_are_not_finite_are_located(tmp_path):
    values = np.zeros((6, 3), np.float32)
    values[2, 1], values[5, 0] = np.nan, -np.inf
    np.save(tmp_path / "rows.npy", values)
    np.save(tmp_path / "labels.npy", np.arange(5))
    message = error_of(tmp_path / "rows.npy").message
    assert "3 problems" in message
    assert "row 2, column 1 is nan" in message
    assert "row 5, column 0 is -inf" in message
    assert "6 rows, but 5 labels" in message


def test_files_that_are_no_arrays_are_explained(tmp_path, rows):
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "cut.npy").write_bytes(rows.read_bytes()[:-5])
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    for name in ("text", "cut", "objects"):
        assert error_of(tmp_path / f"{name}.npy").reference == "unreadable-source"
    assert error_of(tmp_path / "empty.npy").reference in ("unreadable-source", "empty-source")
    np.save(tmp_path / "complex.npy", np.zeros((3, 3), complex))
    np.save(tmp_path / "line.npy", np.zeros(3))
    np.save(tmp_path / "point.npy", np.float64(3))
    np.save(tmp_path / "floats.npy", np.zeros((3, 1, 8, 8)))
    np.save(tmp_path / "channels.npy", np.zeros((3, 5, 8, 8), np.uint8))
    for name in ("complex", "line", "point", "floats", "channels"):
        assert error_of(tmp_path / f"{name}.npy").reference == "bad-array"


def test_what_is_needed_and_missing_is_named(rows):
    assert "there are no labels" in error_of(rows, needs=["label"]).message
    assert "rows.targets.npy" in error_of(rows, needs=["target"]).hint


def test_the_rows_become_a_tensor_of_float32(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(6).reshape(2, 3))
    dataset = load_dataset(read_manifest(tmp_path / "rows.npy"), VectorPreprocessing())
    assert dataset.inputs.dtype == torch.float32
    assert dataset.labels.supervision == "example"
    assert dataset.labels.values.tolist() == [0, 1]
