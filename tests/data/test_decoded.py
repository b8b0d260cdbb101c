"""Images are decoded once; the second start maps their pixels."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tuplet.data import ImagePreprocessing, load_dataset, read_manifest
from tuplet.data.decoded import decode_once
from tuplet.data.images import decode_images
from tuplet.errors import DataError
from tuplet.storage import Lock


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    files = []
    for place in range(9):
        file = tmp_path / "photos" / f"class-{place % 3}" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)
        files.append(file)
    return files


def kept(tmp_path):
    return sorted((tmp_path / "cache").iterdir()) if (tmp_path / "cache").exists() else []


def once(files, tmp_path, size=16):
    return decode_once(files, size, 3, "crop", tmp_path / "cache")


def test_pixels_are_those_of_the_decoder_one_file_after_the_other(photos, tmp_path):
    expected = torch.cat([decode_images([file], 16, 3, "crop") for file in photos])
    assert torch.equal(once(photos, tmp_path), expected)
    assert torch.equal(once(photos, tmp_path), expected)
    assert [file.suffix for file in kept(tmp_path)] == [".npy"]


def test_the_second_time_nothing_is_decoded(photos, tmp_path):
    expected = once(photos, tmp_path).clone()
    before = photos[4].stat()
    photos[4].write_bytes(b"x" * before.st_size)  # not an image any more, which only a decoder would notice
    os.utime(photos[4], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert torch.equal(once(photos, tmp_path), expected)


def test_a_changed_image_or_setting_is_decoded_anew(photos, tmp_path):
    before = once(photos, tmp_path).clone()
    Image.new("RGB", (20, 20), "red").save(photos[0])
    os.utime(photos[0], ns=(1, 1))
    after = once(photos, tmp_path)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1:], before[1:])
    assert once(photos, tmp_path, size=8).shape == (9, 3, 8, 8)
    assert len(kept(tmp_path)) == 3


def test_what_is_written_to_the_pixels_stays_in_memory(photos, tmp_path):
    pixels = once(photos, tmp_path)
    before = pixels.clone()
    pixels.zero_()
    assert torch.equal(once(photos, tmp_path), before)


def test_broken_and_missing_images_are_named_and_nothing_is_left(photos, tmp_path):
    photos[2].write_bytes(b"not an image")
    with pytest.raises(DataError, match=photos[2].name):
        once(photos, tmp_path)
    photos[3].unlink()
    with pytest.raises(DataError, match=photos[3].name):
        once(photos, tmp_path)
    assert kept(tmp_path) == []


def test_without_a_place_to_write_images_are_decoded_into_memory(photos, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert torch.equal(once(photos, tmp_path), decode_images(photos, 16, 3, "crop"))


def test_a_data_set_of_files_is_mapped(photos, tmp_path):
    manifest = read_manifest(tmp_path / "photos")
    preprocessing = ImagePreprocessing(16, 3)
    mapped = load_dataset(manifest, preprocessing, cache=tmp_path / "cache").inputs
    assert torch.equal(mapped, load_dataset(manifest, preprocessing).inputs)
    assert len(kept(tmp_path)) == 1
    shutil.rmtree(tmp_path / "cache")  # it may be deleted at any time, also while it is mapped
    assert mapped.sum() > 0


def test_what_a_killed_process_left_half_written_is_swept_and_what_another_writes_stays(photos, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("dead", "alive"):
        (cache / f".images-{name}.npy.0.partial").write_bytes(b"half")
        (cache / f".images-{name}.npy.0.lock").touch()
    busy = Lock(cache / ".images-alive.npy.0.lock")
    assert busy.take()
    once(photos, tmp_path)
    left = [path.name for path in kept(tmp_path) if path.suffix != ".npy"]
    busy.give_back()
    assert left == [".images-alive.npy.0.lock", ".images-alive.npy.0.partial"]
    once(photos, tmp_path, size=8)  # nobody writes it any more
    assert [path.name for path in kept(tmp_path) if path.suffix != ".npy"] == []
