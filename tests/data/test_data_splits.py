"""Splits by class and by row, and leaks between them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuplet.data import Manifest, find_leaks, split_by_class, split_by_row
from tuplet.errors import DataError

SHARES = st.sampled_from(
    [
        {"train": 0.5, "test": 0.5},
        {"train": 0.8, "validation": 0.1, "test": 0.1},
        {"train": 1.0},
        {"train": 0.999, "test": 0.001},
        {"test": 1.0, "train": 0.0},
    ]
)


@given(classes=st.integers(3, 60), shares=SHARES, seed=st.integers(0, 9))
def test_no_class_stands_in_two_splits_and_every_split_gets_its_share(classes, shares, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes) * 7, 3))
    splits = np.array(split_by_class(labels, shares, seed))
    held = {name: set(labels[splits == name].tolist()) for name in shares}
    assert sum(map(len, held.values())) == classes
    for name, share in shares.items():
        assert abs(len(held[name]) - share * classes) <= 2
        assert bool(held[name]) == (share > 0)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=10),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.2, 0.5]),
)
def test_rows_of_each_class_are_divided_in_proportion(sizes, seed, share):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if sum(sizes) < 12:
        return
    splits = np.array(split_by_row(labels, {"train": 1 - share, "test": share}, seed))
    for label, size in enumerate(sizes):
        assert abs((splits[labels == label] == "test").sum() - share * size) < 1


def test_splits_depend_on_the_seed_alone():
    labels = np.repeat(np.arange(30), 5)
    for divide in (split_by_class, split_by_row):
        shares = {"train": 0.6, "test": 0.4}
        assert divide(labels, shares, 1) == divide(labels, dict(reversed(shares.items())), 1)
        assert divide(labels, shares, 1) != divide(labels, shares, 2)


def test_rows_that_do_not_divide_evenly_go_to_either_split():
    labels = np.arange(400)  # classes of one row
    counts = [Counter(split_by_row(labels, {"train": 0.8, "test": 0.2}, seed))["test"] for seed in range(10)]
    assert 750 < sum(counts) < 850
    assert len(set(counts)) > 1


def test_unknown_classes_go_to_the_first_split():
    labels = np.array([-1, 0, 1, 2, -1])
    splits = split_by_class(labels, {"train": 0.4, "test": 0.6}, 0)
    assert splits[0] == splits[4] == "train"


def test_impossible_splits_are_explained():
    with pytest.raises(DataError, match="2 classes are too few for the splits train, validation, test"):
        split_by_class(np.array([0, 0, 1]), {"train": 0.5, "validation": 0.25, "test": 0.25}, 0)
    with pytest.raises(DataError, match="1 rows are too few"):
        split_by_row(np.array([0]), {"train": 0.5, "test": 0.5}, 0)
    for shares in ({"train": 0.5, "test": 0.4}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "tset": 0.5}, {}):
        with pytest.raises(DataError) as error:
            split_by_class(np.arange(9), shares, 0)
        assert error.value.reference == "split-shares"


def test_leaks_are_classes_and_identical_examples_in_two_splits(tmp_path):
    for name, content in {"a": b"same", "b": b"else", "c": b"same", "d": b"other"}.items():
        (tmp_path / name).write_bytes(content)
    manifest = Manifest(
        kind="image",
        ids=tuple("abcd"),
        items=tuple(tmp_path / name for name in "abcd"),
        labels=np.array([0, 0, 1, 0]),
        class_names=("x", "y"),
        splits=("train", "train", "test", "validation"),
    )
    classes, content = find_leaks(manifest)
    assert (classes.kind, classes.name, classes.splits, classes.ids) == (
        "class",
        "x",
        ("train", "validation"),
        ("a", "b", "d"),
    )
    assert (content.kind, content.name, content.splits, content.ids) == ("content", "a", ("test", "train"), ("a", "c"))


def test_nothing_leaks_without_splits_or_within_one():
    rows = np.zeros((4, 2), np.float32)
    labels = np.array([0, 0, -1, -1])
    fields = {"kind": "vector", "ids": tuple("abcd"), "items": rows, "labels": labels, "class_names": ("x",)}
    assert find_leaks(Manifest(**fields)) == []
    assert find_leaks(Manifest(**fields, splits=("train",) * 4)) == []
    (leak,) = find_leaks(Manifest(**fields, splits=("train", "train", "test", "")))
    assert (leak.kind, leak.ids) == ("content", ("a", "b", "c"))


def test_a_query_may_stand_in_two_splits_with_different_answers():
    texts = {"kind": "text", "ids": tuple("ab"), "items": ("q", "q"), "splits": ("train", "test")}
    assert find_leaks(Manifest(**texts, pairs=("x", "y"))) == []
    assert len(find_leaks(Manifest(**texts, pairs=("x", "x")))) == 1
