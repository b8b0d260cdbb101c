"""Files of the UCR and UEA archives as manifests."""

import numpy as np
import pytest

from tuplet.data import SeriesPreprocessing, load_dataset, read_manifest
from tuplet.errors import DataError

HEAD = "#comment\n@problemName Toy\n@timeStamps false\n@univariate false\n@classLabel true up down\n@data\n"


def write(path, text):
    path.write_text(text)
    return path


def error_of(path, **options):
    with pytest.raises(DataError) as error:
        read_manifest(path, **options)
    return error.value


def test_dimensions_and_classes(tmp_path):
    manifest = read_manifest(write(tmp_path / "toy.ts", HEAD + "1,2,3:4,5,6:up\n\n7,8,9:1e-1,-1,0:down\n"))
    assert manifest.kind == "series"
    assert manifest.items.shape == (2, 2, 3)
    assert manifest.items.dtype == np.float32
    assert manifest.items[1].tolist() == [[7, 8, 9], [np.float32(0.1), -1, 0]]
    assert manifest.class_names == ("down", "up")
    assert manifest.labels.tolist() == [1, 0]
    assert manifest.splits is None


def test_unequal_lengths_reach_the_encoder_padded(tmp_path):
    manifest = read_manifest(write(tmp_path / "toy.ts", HEAD + "1,2,3:4,5,6:up\n7:8:down\n"))
    assert [one.shape for one in manifest.items] == [(2, 3), (2, 1)]
    preprocessing = SeriesPreprocessing()
    dataset = load_dataset(manifest, preprocessing)
    assert preprocessing.fit(dataset.inputs)(dataset.inputs).shape == (2, 2, 3)


def test_a_folder_of_train_and_test_files_is_split(tmp_path):
    write(tmp_path / "Toy_TRAIN.ts", HEAD + "1:2:up\n3:4:down\n")
    write(tmp_path / "Toy_TEST.ts", HEAD + "5:6:up\n")
    manifest = read_manifest(tmp_path)
    assert manifest.splits == ("test", "train", "train")
    assert manifest.labels.tolist() == [1, 1, 0]
    assert manifest.part("train").items[:, 0, 0].tolist() == [1, 3]


def test_graded_and_missing_labels(tmp_path):
    graded = write(tmp_path / "graded.ts", "@targetLabel true\n@data\n1,2:0.5\n3,4:1e1\n")
    assert read_manifest(graded).targets.tolist() == [[0.5], [10]]
    assert read_manifest(graded).labels is None
    bare = write(tmp_path / "bare.ts", "@classLabel false\n@data\n1,2:3,4\n")
    assert read_manifest(bare).items.shape == (1, 2, 2)
    assert read_manifest(bare).labels is None
    assert "@classLabel false" in error_of(bare, needs=["label"]).message


def test_all_problems_are_reported_with_their_lines(tmp_path):
    rows = "1,2:3,4:up\n1,?:3,4:up\n1,2:up\n1,2:3:up\n1,2:nan,4:up\nup\n"
    error = error_of(write(tmp_path / "toy.ts", HEAD + rows))
    for text in (
        "5 problems",
        "line 8: toy.ts: dimension 1 holds '?', not a finite number",
        "line 9: toy.ts: 1 dimensions, but the first series has 2",
        "line 10: toy.ts: dimensions of 2, 1 values",
        "line 11: toy.ts: dimension 2 holds 'nan', not a finite number",
        "line 12: toy.ts: 0 dimensions",
    ):
        assert text in error.message
    assert error.reference == "bad-series"


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("", "no series below @data"),
        (HEAD, "no series below @data"),
        ("1,2:up\n", "data before @data"),
        ("@timestamps true\n@data\n(0,1),(1,2):up\n", "time stamps are not supported"),
        ("@targetlabel true\n@data\n1,2:high\n", "the target 'high' is not a finite number"),
    ],
)
def test_files_that_are_no_series_are_explained(tmp_path, text, reported):
    assert reported in error_of(write(tmp_path / "toy.ts", text)).message
