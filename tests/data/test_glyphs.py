"""The built-in data set: counts, cache, and how far raw pixels get."""

import multiprocessing
import shutil

import numpy as np
import pytest
import torch

from tuplet.data import ImagePreprocessing, load_dataset, raw_features
from tuplet.data.glyphs import glyph_facts, make_glyphs
from tuplet.data.split import split_by_class
from tuplet.errors import DataError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs") / "new"
    make_glyphs(folder)
    return folder


def test_counts_of_the_definition(cache):
    manifest, facts = make_glyphs(cache), glyph_facts(cache)
    assert (facts.classes, facts.images, len(facts.faces)) == (1611, 19999, 16)
    assert (len(facts.lookalikes), len(facts.set_aside)) == (413, 243)
    assert set("AΑА") < set(facts.lookalikes)  # Latin, Greek, Cyrillic
    assert set("AΑА") & set(facts.set_aside) == set("ΑА")
    assert manifest.items.shape == (19999, 1, 32, 32)
    assert manifest.items.dtype == np.uint8
    assert len(set(manifest.ids)) == 19999
    assert manifest.ids[0] == "U+0030/DejaVuSans"
    assert manifest.class_names[0] == "0 (U+0030)"
    assert len(manifest.class_names) == 1611
    assert set(manifest.groups) == {"DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "STIX General"}


def test_classes_have_eight_different_images_or_more(cache):
    manifest = make_glyphs(cache)
    assert np.bincount(manifest.labels).min() >= 8
    rows = {(label, image.tobytes()) for label, image in zip(manifest.labels.tolist(), manifest.items, strict=True)}
    assert len(rows) == 19999
    assert manifest.items.reshape(19999, -1).any(1).all()


def test_no_face_draws_two_classes_alike(cache):
    manifest = make_glyphs(cache)
    faces = [name.split("/")[1] for name in manifest.ids]
    assert len({(face, image.tobytes()) for face, image in zip(faces, manifest.items, strict=True)}) == 19999


def flip_a_bit(pixels, table):
    content = bytearray(pixels.read_bytes())
    content[5000] ^= 1
    pixels.write_bytes(bytes(content))


def cut_the_table(pixels, table):
    table.write_text(table.read_text()[:-9])


@pytest.mark.parametrize("damage", [flip_a_bit, pytest.param(cut_the_table, marks=pytest.mark.weekly)])
def test_a_damaged_cache_is_sampled_again_with_the_same_bytes(cache, tmp_path, damage):
    shutil.copytree(cache, tmp_path / "copy")
    files = tmp_path / "copy" / "glyphs.npy", tmp_path / "copy" / "glyphs.json"
    whole = [file.read_bytes() for file in files]
    damage(*files)
    assert [file.read_bytes() for file in files] != whole
    assert make_glyphs(tmp_path / "copy").items.tobytes() == make_glyphs(cache).items.tobytes()
    assert [file.read_bytes() for file in files] == whole
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == ["glyphs.json", "glyphs.npy"]


@pytest.mark.slow
@pytest.mark.distributed
def test_several_processes_may_draw_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=make_glyphs, args=(tmp_path / "shared",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(make_glyphs(tmp_path / "shared")) == 19999
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["glyphs.json", "glyphs.npy"]


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be kept in") as error:
        make_glyphs(tmp_path / "file" / "cache")
    assert error.value.reference == "cannot-write"


@pytest.mark.slow
def test_raw_pixels_of_unseen_characters_reach_the_known_baseline(cache):
    manifest = make_glyphs(cache)
    splits = np.array(split_by_class(manifest.labels, {"train": 0.5, "test": 0.5}, seed=0))
    dataset = load_dataset(manifest.take(np.flatnonzero(splits == "test")), ImagePreprocessing(size=32, channels=1))
    vectors = torch.nn.functional.normalize(raw_features(dataset))
    labels = dataset.labels.values
    families = torch.from_numpy(np.unique(dataset.groups, return_inverse=True)[1])
    chosen = torch.arange(0, len(vectors), 5)  # every fifth query tells as much
    scores = vectors[chosen] @ vectors.T
    scores[torch.arange(len(chosen)), chosen] = -2
    alone = labels[scores.argmax(1)] == labels[chosen]
    scores[families[chosen, None] == families] = -2
    across = labels[scores.argmax(1)] == labels[chosen]
    assert alone.float().mean() == pytest.approx(0.495, abs=0.03)
    assert across.float().mean() == pytest.approx(0.638, abs=0.03)
