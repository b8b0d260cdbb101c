"""From items to stored form to what an encoder reads."""

import json

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image
from sklearn.datasets import load_wine

from tuplet.data import (
    AffineAugment,
    ImagePreprocessing,
    NoiseAugment,
    SeriesAugment,
    SeriesPreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
    preprocessing_from_config,
)
from tuplet.errors import DataError, ShapeError


def test_images_of_any_mode_are_decoded_alike(tmp_path):
    grey = Image.fromarray(np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    files = {
        "l.png": grey,
        "rgb.png": grey.convert("RGB"),
        "palette.png": grey.convert("P"),
        "deep.png": sixteen,
        "deep.tif": sixteen,
        "opaque.png": grey.convert("RGBA"),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    stored = ImagePreprocessing(size=8, channels=1).load([tmp_path / name for name in files])
    assert stored.dtype == torch.uint8
    assert stored.shape == (6, 1, 8, 8)
    for decoded in stored:
        assert decoded.numpy()[0].tolist() == np.asarray(grey).tolist()


def test_what_is_transparent_lies_on_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    image.save(tmp_path / "t.png")
    stored = ImagePreprocessing(size=4).load([tmp_path / "t.png"])[0]
    assert stored[:, 0, 0].tolist() == [0, 0, 255]
    assert stored[:, 3, 3].tolist() == [255, 255, 255]


def test_a_photo_taken_sideways_stands_upright(tmp_path):
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 2))  # bright at the top
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.png", exif=exif)
    stored = ImagePreprocessing(size=8, channels=1).load([tmp_path / "turned.png"])[0, 0]
    assert stored[7].min() == 255
    assert stored[0].max() == 0


@pytest.mark.parametrize(("fit_by", "left", "middle"), [("crop", 100, 100), ("pad", 50, 100), ("stretch", 50, 100)])
def test_wide_images_become_squares(fit_by, left, middle):
    wide = np.full((8, 24), 100, np.uint8)
    wide[:, :8] = 50
    wide[:, 16:] = 50
    square = ImagePreprocessing(size=8, channels=1, fit_by=fit_by).load([wide])[0, 0]
    assert square[4, 0] == left
    assert square[4, 4] == middle
    if fit_by == "pad":
        assert 50 <= square[0, 4] < 100  # the border's mean


def test_arrays_and_pillow_images_are_items_too():
    pixels = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    load = ImagePreprocessing(size=8).load
    expected = torch.from_numpy(pixels)
    assert torch.equal(load([pixels])[0], expected)
    assert torch.equal(load([pixels.transpose(1, 2, 0)])[0], expected)
    assert torch.equal(load([Image.fromarray(pixels.transpose(1, 2, 0).copy())])[0], expected)
    assert torch.equal(load(pixels[None])[0], expected)
    assert load(np.zeros((2, 16, 16), np.uint8)).shape == (2, 3, 8, 8)


def test_all_images_that_cannot_be_decoded_are_reported(tmp_path):
    good = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    good.save(tmp_path / "good.png")
    good.save(tmp_path / "good.jpg")
    for name in ("good.png", "good.jpg"):
        (tmp_path / f"cut-{name}").write_bytes((tmp_path / name).read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    names = ["good.png", "cut-good.png", "text.png", "cut-good.jpg", "missing.png"]
    items = [*(tmp_path / name for name in names), np.zeros((4, 4))]
    with pytest.raises(DataError) as error:
        ImagePreprocessing(size=8).load(items)
    message = error.value.message
    assert "5 problems" in message
    assert "/good.png" not in message
    assert "text.png: not an image" in message
    assert "missing.png: no such file" in message
    assert "item 5: an array (4, 4) of float64" in message
    assert error.value.reference == "bad-data"
    with pytest.raises(DataError) as error:
        ImagePreprocessing(size=8).load([tmp_path / "text.png"])
    assert error.value.message == f"{tmp_path / 'text.png'}: not an image"
    with pytest.raises(DataError) as error:
        ImagePreprocessing(size=8).load([tmp_path / "missing.png"])
    assert error.value.message == f"{tmp_path / 'missing.png'}: no such file"
    assert error.value.reference == "missing-file"


def test_fitted_images_have_mean_zero_and_deviation_one():
    images = torch.randint(0, 200, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] //= 4
    fitted = ImagePreprocessing(size=8).fit(images)
    seen = fitted(images)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    black = ImagePreprocessing(size=8, channels=1).fit(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    assert black(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)).abs().max() == 0


def test_fitted_rows_are_standardised_and_constant_columns_are_zero():
    rows = np.column_stack([load_wine().data, np.full(178, 7.0)])
    stored = VectorPreprocessing().load(rows)
    seen = VectorPreprocessing().fit(stored)(stored)
    torch.testing.assert_close(seen.mean(0), torch.zeros(14), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(0)[:13], torch.ones(13), atol=0.01, rtol=0)
    assert seen[:, 13].abs().max() < 1e-6


def test_arrays_that_may_not_be_written_to_are_copied():
    rows, image = np.ones((2, 3), np.float32), np.ones((1, 1, 8, 8), np.uint8)
    for array in (rows, image):
        array.flags.writeable = False
    assert VectorPreprocessing().load(rows).data_ptr() != rows.ctypes.data
    assert ImagePreprocessing(size=8, channels=1).load(image).data_ptr() != image.ctypes.data


def test_a_large_photo_is_decoded_at_a_fraction_of_its_size(tmp_path):
    y, x = np.mgrid[:512, :768]
    pixels = (127 + 120 * np.sin(x / 90) * np.cos(y / 70)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    jpeg, png = ImagePreprocessing(channels=1).load([tmp_path / "photo.jpg", tmp_path / "photo.png"]).float()
    assert (jpeg - png).abs().max() < 6


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImagePreprocessing(size=0),
        lambda: ImagePreprocessing(channels=2),
        lambda: TextPreprocessing(buckets=1),
        lambda: TextPreprocessing(shortest=4, longest=3),
        lambda: TextPreprocessing(most=0),
        lambda: ImagePreprocessing(std=(0.0,)),
        lambda: ImagePreprocessing(levels=(2.0, 1.0)),
        lambda: AffineAugment(crop=0.0),
        lambda: AffineAugment(rotate=-0.1),
        lambda: AffineAugment(scale=1.0),
        lambda: AffineAugment(grey=1.5),
        lambda: AffineAugment(brightness=float("nan")),
        lambda: NoiseAugment(drop=1.0),
        lambda: NoiseAugment(noise=-1.0),
        lambda: NoiseAugment(noise=float("inf")),
        lambda: SeriesAugment(scale=-1.0),
    ],
)
def test_options_out_of_bounds_are_refused(make):
    with pytest.raises((ValueError, TypeCheckError, ShapeError)):
        make()


def test_rows_of_the_wrong_shape_or_not_finite_are_refused():
    fitted = VectorPreprocessing().fit(torch.randn(5, 3))
    with pytest.raises(ShapeError, match=r"\(n, 3\), not \(2, 4\)"):
        fitted.load(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match=r"\(n, dim\), not \(4,\)"):
        VectorPreprocessing().load(np.zeros(4))
    with pytest.raises(ShapeError, match="must be numbers of shape"):
        VectorPreprocessing().load([[1.0, 2.0], [3.0]])
    with pytest.raises(ShapeError, match="must be numbers of shape"):
        VectorPreprocessing().load([["one", "two"]])
    with pytest.raises(DataError, match="1 of 1 inputs"):
        VectorPreprocessing().load([[1e300]])
    with pytest.raises(DataError, match="1 of 3 inputs hold NaN or infinity; the first is row 1"):
        VectorPreprocessing().load([[1.0], [float("nan")], [2.0]])


def test_series_of_unequal_length_are_padded_with_zeros_after_scaling():
    items = [np.full((2, 4), 3.0), np.full((2, 6), 5.0), np.arange(4.0).reshape(2, 2)]
    stored = SeriesPreprocessing().load(items)
    assert isinstance(stored, list)
    fitted = SeriesPreprocessing().fit(stored)
    assert (fitted.channels, fitted.length) == (2, 6)
    seen = fitted(stored)
    assert seen.shape == (3, 2, 6)
    assert seen[0, :, 4:].abs().max() == 0
    assert seen[2, :, 2:].abs().max() == 0
    real = torch.cat([seen[0, :, :4], seen[1], seen[2, :, :2]], 1)
    torch.testing.assert_close(real.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(real.std(1, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert torch.equal(fitted([stored[0]]), seen[:1])  # whatever it is batched with


def test_longer_series_are_cut_or_resampled():
    ramp = torch.arange(8.0).expand(1, 1, 8)
    assert SeriesPreprocessing(length=4)(ramp).tolist() == [[[0, 1, 2, 3]]]
    shrunk = SeriesPreprocessing(length=3, fit_by="resample")([ramp[0], ramp[0, :, :3]])
    torch.testing.assert_close(shrunk, torch.tensor([[[0, 3.5, 7]], [[0, 1, 2]]]))


def test_series_scaled_by_themselves():
    stored = [torch.tensor([[1.0, 3.0]]), torch.tensor([[10.0, 10.0, 40.0]]), torch.tensor([[5.0]])]
    seen = SeriesPreprocessing(length=3, per_series=True)(stored)
    assert seen[0].tolist() == [[-1, 1, 0]]
    torch.testing.assert_close(seen[1].mean(), torch.tensor(0.0))
    torch.testing.assert_close(seen[1].std(correction=0), torch.tensor(1.0))
    assert seen[2].tolist() == [[0, 0, 0]]


def test_flat_series_get_one_channel_and_wrong_ones_are_refused():
    assert SeriesPreprocessing().load(np.zeros((5, 9))).shape == (5, 1, 9)
    assert SeriesPreprocessing().load([np.zeros(9), np.zeros(9)]).shape == (2, 1, 9)
    with pytest.raises(ShapeError, match=r"\(n, 2, time\)"):
        SeriesPreprocessing(channels=2).load(np.zeros((5, 9)))
    with pytest.raises(ShapeError, match=r"\(1, time\), not \(2, 9\)"):
        SeriesPreprocessing().load([np.zeros(9), np.zeros((2, 9))])
    with pytest.raises(DataError, match="the first is series 1"):
        SeriesPreprocessing().load([np.zeros(9), np.full(4, np.inf)])


def grams(text, **options):
    return sorted(TextPreprocessing(**options).load([text])[0].tolist())


def test_tokens_are_words_and_ngrams():
    assert len(grams("a cat", shortest=0)) == 2
    assert len(grams("a cat", words=False, shortest=3, longest=3)) == 5  # " a ", "a c", " ca", "cat", "at "
    assert len(grams("a cat")) == 2 + 5 + 4 + 3
    assert grams("") == []
    assert grams("  A \n Cat ") == grams("a cat") != grams("a Cat", lower=False)
    assert set(grams("cat", shortest=0)) < set(grams("the cat sat", shortest=0))
    assert grams("cat sat", shortest=0) == grams("sat cat", shortest=0)
    assert grams("cat sat") != grams("sat cat")
    assert len(grams("x" * 5000, most=100)) == 100
    assert min(grams("some words", buckets=16)) >= 1
    assert max(grams("some words and many more letters", buckets=16)) <= 15


def test_a_text_has_the_same_tokens_whatever_it_is_hashed_with():
    texts = [f"text number {i} – ünïcode 日本語 🎈" for i in range(50)]
    together = TextPreprocessing().load(texts)
    for text, tokens in zip(texts, together, strict=True):
        assert torch.equal(TextPreprocessing().load([text])[0], tokens)
    assert together[0].tolist() != together[1].tolist()


def test_hashes_spread_over_the_buckets():
    tokens = torch.cat(TextPreprocessing(buckets=257, shortest=0).load([str(i) for i in range(25600)]))
    counts = torch.bincount(tokens.long(), minlength=257)
    assert counts[0] == 0
    assert (counts[1:].float() - 100).abs().max() < 60  # six standard deviations


def test_texts_are_read_filled_up_with_zeros():
    preprocessing = TextPreprocessing(shortest=0)
    seen = preprocessing(preprocessing.load(["one", "one two three", ""]))
    assert seen.dtype == torch.int64
    assert (seen != 0).sum(1).tolist() == [1, 3, 0]
    assert preprocessing(preprocessing.load(["", ""])).shape == (2, 1)
    plain = TextPreprocessing(hashed=False)
    assert plain(plain.load(["One", "Two"])) == ["One", "Two"]


@pytest.mark.parametrize(
    "preprocessing",
    [
        ImagePreprocessing(size=16, channels=1, mean=(0.1,), std=(0.3,), fit_by="pad"),
        VectorPreprocessing(mean=(0.1, 1 / 3), scale=(1.0, 2.0)),
        SeriesPreprocessing(channels=2, length=9, mean=(0.5, 0.1), scale=(2.0, 3.0)),
        TextPreprocessing(buckets=128, words=False),
    ],
)
def test_configurations_come_back_from_json(preprocessing):
    assert preprocessing_from_config(json.loads(json.dumps(preprocessing.to_config()))) == preprocessing


def test_unknown_configurations_are_refused():
    with pytest.raises(DataError, match="kind 'imge'") as error:
        preprocessing_from_config({"kind": "imge"})
    assert "image" in error.value.hint
    with pytest.raises(DataError, match="no option 'sizes'"):
        preprocessing_from_config({"kind": "image", "sizes": 3})
