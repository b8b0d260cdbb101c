"""Pixels of images of every depth and mode: right values, or one clear message."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from tuplet.data import ImagePreprocessing, preprocessing_from_config, read_manifest
from tuplet.data.images import decode_images, find_levels
from tuplet.errors import DataError

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)


def decoded(files, **options):
    return ImagePreprocessing(size=8, channels=1, **options).with_levels(files).load(files)[:, 0].numpy()


def write_png(path, pixels):
    """A PNG of 16 bits a channel (h, w, 3), which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, content in [*chunks, (b"IEND", b"")]:
        whole += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("suffix", "values"),
    [
        ("png", RAMP.astype(np.uint16)),  # 8 bits in a file of 16
        ("tif", RAMP.astype(np.uint16) * 16),  # 12 bits
        ("png", RAMP.astype(np.uint16) * 257),
        ("tif", RAMP.astype(np.int32) * 1000),  # above 16 bits
        ("tif", RAMP.astype(np.int32) - 1000),  # Hounsfield units
        ("tif", RAMP.astype(np.float32) / 255),
        ("tif", RAMP.astype(np.float32) * 1e6 - 5),
    ],
)
def test_images_of_more_than_eight_bits_are_scaled_by_their_range(tmp_path, suffix, values):
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert decoded([tmp_path / f"deep.{suffix}"])[0].tolist() == RAMP.tolist()


def test_unsigned_values_of_32_bits_do_not_wrap(tmp_path):
    values = RAMP.astype(np.uint32) * np.uint32(16843009)  # up to 2^32 - 1
    Image.fromarray(values.view(np.int32)).save(tmp_path / "deep.tif")  # tagged as signed, the only way Pillow writes
    signed, unsigned = (struct.pack("<HHII", 339, 3, 1, tag) for tag in (2, 1))
    written = (tmp_path / "deep.tif").read_bytes()
    assert signed in written
    (tmp_path / "deep.tif").write_bytes(written.replace(signed, unsigned))
    assert decoded([tmp_path / "deep.tif"])[0].tolist() == RAMP.tolist()


def test_twelve_bits_keep_256_levels(tmp_path):
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    stored = ImagePreprocessing(size=64, channels=1).load([tmp_path / "deep.png"])
    assert len(stored.unique()) == 256


def test_one_scale_holds_for_the_whole_data_set_and_later_for_single_images(tmp_path):
    files = [tmp_path / name for name in ("dark.png", "bright.png", "plain.png")]
    for file, factor in zip(files[:2], (1, 16), strict=True):
        Image.fromarray(RAMP.astype(np.uint16) * factor).save(file)
    Image.fromarray(RAMP).save(files[2])
    fitted = ImagePreprocessing(size=8, channels=1).with_levels(files)
    assert fitted.levels == (0.0, 4080.0)
    together = fitted.load(files)
    assert together[0].max() == 16  # 255 of 4080
    assert together[1:].numpy().tolist() == [[RAMP.tolist()]] * 2  # 8-bit images have a scale of their own
    saved = preprocessing_from_config(fitted.to_config())
    for file, expected in zip(files, together, strict=True):
        assert torch.equal(saved.load([file])[0], expected)


def test_arrays_of_sixteen_bits_are_scaled_together():
    stack = np.stack([RAMP.astype(np.uint16), RAMP.astype(np.uint16) * 16])[:, None]
    stored = ImagePreprocessing(size=8, channels=1).load(stack)
    assert stored[:, 0].amax((1, 2)).tolist() == [16, 255]
    assert find_levels([*stack[:, 0], RAMP]) == (0.0, 4080.0)
    assert find_levels([RAMP]) is None


def test_values_far_from_those_of_the_data_set_are_refused(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "plain.png")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    trained = ImagePreprocessing(size=8, channels=1).with_levels([tmp_path / "plain.png"])
    with pytest.raises(DataError, match="65535") as error:
        trained.load([tmp_path / "deep.png"])
    assert error.value.reference == "broken-image"


def test_values_that_are_not_finite_are_refused(tmp_path):
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match="NaN"):
        decoded([tmp_path / "deep.tif"])


def test_colour_of_sixteen_bits_is_read_where_its_upper_bits_are_used(tmp_path):
    colour = np.stack([RAMP, RAMP.T, 255 - RAMP], 2).astype(np.uint16)
    write_png(tmp_path / "full.png", colour * 257)
    stored = ImagePreprocessing(size=8).with_levels([tmp_path / "full.png"]).load([tmp_path / "full.png"])
    assert stored[0].permute(1, 2, 0).tolist() == colour.tolist()
    write_png(tmp_path / "low.png", colour)
    assert find_levels([tmp_path / "full.png", tmp_path / "low.png"]) is None  # a dark image of a set that has others
    with pytest.raises(DataError, match=r"low\.png") as error:
        find_levels([tmp_path / "low.png"])
    assert error.value.reference == "image-depth"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_stand_upright_as_others_do(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "plain.png", exif=exif)
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "deep.png", exif=exif)
    plain, deep = decoded([tmp_path / "plain.png", tmp_path / "deep.png"])
    assert plain.tolist() == deep.tolist()


def test_modes_of_eight_bits_and_fewer_have_their_values(tmp_path):
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[:, :4] = 200, 40, 40
    picture = Image.fromarray(colour)
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "frames.gif", save_all=True, append_images=[Image.new("P", (8, 8))])  # the first one counts
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((7, 7)))
    Image.fromarray(RAMP > 100).save(tmp_path / "bits.png")
    stored = ImagePreprocessing(size=8).load(
        [tmp_path / name for name in ("frames.gif", "cmyk.jpg", "cmyk.tif", "palette.png", "bits.png")]
    )
    for image in stored[:3]:
        assert (image[:, 4, 1].int() - torch.tensor([200, 40, 40])).abs().max() <= 3
        assert image[:, 4, 6].max() <= 3
    assert stored[3][:, 4, 6].tolist() == [255, 255, 255]  # what is transparent lies on white
    assert stored[4][0].tolist() == (255 * (RAMP > 100)).tolist()


def test_large_images_are_read_and_those_above_the_limit_are_named(tmp_path, monkeypatch):
    Image.new("L", (15, 10), 7).save(tmp_path / "large.png")
    Image.new("L", (30, 10), 7).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above it, and refuses twice as many
    assert decode_images([tmp_path / "large.png"], 8, 1, "crop").unique().tolist() == [7]
    with pytest.raises(DataError, match="300 pixels, more than the 200") as error:
        decode_images([tmp_path / "huge.png"], 8, 1, "crop")
    assert error.value.reference == "broken-image"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        decode_images([tmp_path / "pipe.png"], 8, 1, "crop")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "photos" / "a" / "pipe")
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "a" / "1.png")
    manifest = read_manifest(tmp_path / "photos")
    assert manifest.ids == ("a/1.png",)
    assert manifest.left_out == (("a/pipe", "is not a regular file"),)
