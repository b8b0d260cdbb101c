"""Data sets, batches, raw features."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tuplet.data import (
    ImagePreprocessing,
    Manifest,
    SeriesPreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
    content_ids,
    labels_of,
    load_dataset,
    rare_classes,
    raw_features,
    take_batch,
)
from tuplet.errors import LabelError


def manifest(**fields):
    items = fields.pop("items", np.arange(12, dtype=np.float32).reshape(4, 3))
    return Manifest(kind=fields.pop("kind", "vector"), ids=tuple("abcd"), items=items, **fields)


LABELS = np.array([0, 1, -1, 1])


def test_a_batch_holds_inputs_labels_and_positions():
    dataset = load_dataset(manifest(labels=LABELS, class_names=("x", "y"), groups=tuple("pqrs")), VectorPreprocessing())
    assert len(dataset) == 4
    assert dataset[2][0].tolist() == [6, 7, 8]
    assert dataset[2][1] == 2
    assert dataset.groups == ("p", "q", "r", "s")
    batch = take_batch(dataset, torch.tensor([3, 0]))
    assert batch.inputs.tolist() == [[9, 10, 11], [0, 1, 2]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.positions.tolist() == [3, 0]
    assert batch.partners is None


def test_labels_follow_the_supervision():
    graded = np.arange(4.0)[:, None]
    known = manifest(labels=LABELS, targets=graded)
    assert labels_of(known).supervision == "class"
    assert labels_of(known, "graded").values.tolist() == graded.tolist()
    assert labels_of(known, "example").values.tolist() == [0, 1, 2, 3]
    assert labels_of(manifest(targets=graded)).supervision == "graded"
    assert labels_of(manifest(pairs=tuple("abcd"))).supervision == "pair"
    assert labels_of(manifest()).supervision == "example"
    assert take_batch(load_dataset(known, VectorPreprocessing(), "none"), torch.tensor([1])).labels is None


@pytest.mark.parametrize("supervision", ["class", "example", "pair", "none"])
def test_classes_are_known_whatever_the_loss_is_reported(supervision):
    dataset = load_dataset(manifest(labels=LABELS, class_names=("x", "y")), VectorPreprocessing(), supervision)
    assert dataset.labels.supervision == supervision
    assert dataset.classes.tolist() == LABELS.tolist()
    assert load_dataset(manifest(), VectorPreprocessing(), "none").classes is None


def test_the_second_side_of_pairs_may_be_preprocessed_otherwise():
    pairs = manifest(kind="text", items=tuple("abcd"), pairs=("a b", "b c", "c d", "d e"))
    dataset = load_dataset(pairs, TextPreprocessing(shortest=0), "pair", TextPreprocessing(hashed=False))
    assert dataset.partners == ["a b", "b c", "c d", "d e"]
    assert isinstance(dataset.inputs[0], torch.Tensor)


def test_missing_labels_are_named():
    with pytest.raises(LabelError, match="labels of kind 'class', which memory does not have"):
        labels_of(manifest(), "class")
    with pytest.raises(LabelError, match="'graded'"):
        load_dataset(manifest(labels=LABELS), VectorPreprocessing(), "graded")


def test_pairs_of_texts_come_with_their_partners():
    pairs = manifest(kind="text", items=("a cat", "a dog", "cat", "dog"), pairs=("b", "c", "b", "d"))
    dataset = load_dataset(pairs, TextPreprocessing(shortest=0))
    batch = take_batch(dataset, torch.tensor([1, 0]))
    assert [len(tokens) for tokens in batch.inputs] == [2, 2]
    assert torch.equal(batch.partners[1], TextPreprocessing(shortest=0).load(["b"])[0])
    assert content_ids(pairs).tolist() == [[0, 0], [1, 1], [2, 0], [3, 2]]


def test_raw_images_are_centred_pixels():
    images = np.random.default_rng(0).integers(0, 255, (4, 1, 8, 8), dtype=np.uint8)
    dataset = load_dataset(manifest(kind="image", items=images), ImagePreprocessing(size=8, channels=1))
    raw = raw_features(dataset)
    flat = images.reshape(4, -1).astype(np.float32)
    np.testing.assert_allclose(raw.numpy(), flat - flat.mean(0), atol=1e-4)


def test_raw_rows_are_scaled_by_the_gallery():
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).numpy() * [1, 100, 1e-3]
    dataset = load_dataset(manifest(items=rows), VectorPreprocessing())
    raw = raw_features(dataset)
    torch.testing.assert_close(raw.square().mean(0), torch.ones(3), atol=1e-4, rtol=0)
    one = load_dataset(manifest(items=rows).take([2, 2, 2, 2]), VectorPreprocessing())
    torch.testing.assert_close(raw_features(one, gallery=dataset)[0], raw[2])


def test_raw_series_compare_shapes_not_sizes():
    time = torch.linspace(0, 6, 40)
    items = tuple(one.numpy() for one in (time.sin(), 9 * time.sin() + 5, time.cos(), 3 * time.cos() - 1))
    raw = functional.normalize(raw_features(load_dataset(manifest(kind="series", items=items), SeriesPreprocessing())))
    scores = raw @ raw.T - 2 * torch.eye(4)
    assert scores.argmax(1).tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("hashed", [True, False])
def test_raw_texts_find_those_with_rare_words_in_common(hashed):
    texts = ("the cat", "the dog", "the cats", "the dogs")
    dataset = load_dataset(manifest(kind="text", items=texts), TextPreprocessing(hashed=hashed))
    raw = functional.normalize(raw_features(dataset))
    scores = raw @ raw.T - 2 * torch.eye(4)
    assert scores.argmax(1).tolist() == [2, 3, 0, 1]


def test_classes_with_a_single_example_are_listed():
    known = manifest(labels=LABELS, class_names=("x", "y", "unused"))
    assert rare_classes(known) == ("x",)
    assert rare_classes(known, least=3) == ("x", "y")
    assert rare_classes(manifest()) == ()
