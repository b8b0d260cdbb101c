"""Random changes of a batch: what they do, and that a generator decides them."""

import pytest
import torch
from torch.nn import functional

from tuplet.data.augment import AffineAugment, NoiseAugment, SeriesAugment, TokenAugment, _grid, registry
from tuplet.seeding import Draws


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=8, size=32, channels=1):
    """Images with a bright, off-centre spot."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    spot = torch.exp(-((x - size * 0.6) ** 2 + (y - size * 0.4) ** 2) / 20)
    return spot.expand(n, channels, size, size).clone()


STILL = AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=0.0)


def centre(images):
    """Centre of mass (x, y) of each image, in pixels."""
    axis = torch.arange(images.shape[-1]) + 0.5
    mass = images.sum((1, 2, 3))
    return torch.stack([(images.sum((1, 2)) * axis).sum(1) / mass, (images.sum((1, 3)) * axis).sum(1) / mass], 1)


def test_nothing_asked_changes_nothing():
    images = torch.rand(5, 3, 9, 7, generator=generator())
    torch.testing.assert_close(STILL(images, generator()), images, atol=1e-5, rtol=0)


def test_the_same_generator_gives_the_same_batch_and_another_one_another():
    images = blobs(4)
    for augment in (AffineAugment(crop=0.5, flip=True, brightness=0.1, contrast=0.1), NoiseAugment(0.1, 0.1, 0.1)):
        assert torch.equal(augment(images, generator(1)), augment(images, generator(1)))
        assert not torch.equal(augment(images, generator(1)), augment(images, generator(2)))


COLOURS = {"brightness": 0.1, "contrast": 0.1, "channel": 0.1, "grey": 0.5, "noise": 0.1}
EVERYTHING = [
    (AffineAugment(crop=0.5, flip=True, **COLOURS), blobs(7, channels=3)),
    (NoiseAugment(0.1, 0.1, 0.1), blobs(7)),
    (SeriesAugment(window=20, crop=0.5, noise=0.1, scale=0.1, hide=0.3), torch.rand(7, 2, 30) + 1),
    (TokenAugment(0.5), torch.arange(1, 71).view(7, 10)),
]


@pytest.mark.parametrize(("augment", "batch"), EVERYTHING, ids=lambda entry: type(entry).__name__)
def test_parts_of_a_batch_are_changed_as_they_are_in_the_whole(augment, batch):
    whole = generator(1)
    first, second = augment(batch, whole), augment(batch, whole)
    assert not torch.equal(first, second), "two views of one batch differ"
    parts, before = [], 0
    for part in batch.split([3, 0, 4]):
        mine = Draws(generator(1), before, len(batch))
        parts.append((augment(part, mine), augment(part, mine)))
        before += len(part)
    torch.testing.assert_close(torch.cat([view for view, _ in parts]), first)
    torch.testing.assert_close(torch.cat([view for _, view in parts]), second)


def test_channels_are_lit_apart_and_some_images_turn_grey():
    images = torch.zeros(400, 3, 4, 4)
    lit = AffineAugment(channel=0.5)(images, generator())
    assert (lit == lit[:, :, :1, :1]).all(), "each channel is moved as a whole"
    assert (lit[:, 0] != lit[:, 1]).any()
    assert -0.5 <= lit.min() < lit.max() <= 0.5
    grey = AffineAugment(channel=0.5, grey=0.25)(images, generator())
    is_grey = (grey == grey[:, :1]).flatten(1).all(1)
    assert is_grey.float().mean() == pytest.approx(0.25, abs=0.07)
    assert STILL.noise == 0
    assert AffineAugment(noise=0.3)(images, generator()).std() == pytest.approx(0.3, rel=0.05)


def short(lengths, steps=40):
    """Series that count from 1 to their length, filled up with zeros."""
    time = torch.arange(1, steps + 1)
    return (time * (time <= torch.tensor(lengths)[:, None])).float()[:, None]


def test_a_window_is_a_stretch_of_its_series_at_a_random_place():
    lengths = [40, 40, 40, 12, 9, 1]
    cut = SeriesAugment(window=12)(short(lengths), generator())
    assert cut.shape == (6, 1, 12)
    for row, length in zip(cut[:, 0], lengths, strict=True):
        kept = row[row != 0]
        assert len(kept) == min(length, 12)
        assert (kept.diff() == 1).all(), "what is kept stays in order"
        assert row[: len(kept)].all(), "and lies at the start"
    starts = SeriesAugment(window=12)(short([40] * 300), generator())[:, 0, 0]
    assert sorted(starts.unique().tolist()) == list(range(1, 30)), "every place comes, none reaches over the end"


def test_a_crop_keeps_at_least_its_part_of_each_series():
    kept = (SeriesAugment(crop=0.5)(short([40] * 200 + [10] * 200), generator()) != 0).sum((1, 2))
    assert kept[:200].min() >= 20
    assert kept[:200].max() == 40
    assert kept[200:].min() >= 5
    assert kept[200:].max() == 10


@pytest.mark.parametrize("augment", [NoiseAugment(0.5, 0.2, 0.2), SeriesAugment(noise=0.5, scale=0.2, hide=0.2)])
def test_what_lies_behind_the_end_of_a_series_stays_zero(augment):
    changed = augment(short([40, 7]), generator())
    assert not changed[1, :, 7:].any()
    assert changed[0, :, 30:].any()


def test_a_stretch_is_hidden():
    seen = SeriesAugment(hide=0.5)(torch.ones(300, 2, 40), generator())[:, 0]
    hidden = (seen == 0).sum(1)
    assert 0 <= hidden.min() < 3
    assert 17 < hidden.max() <= 20
    assert ((seen.diff(dim=1) != 0).sum(1) <= 2).all(), "one stretch of each"


def test_tokens_are_left_out_the_same_way_however_far_a_batch_is_filled_up():
    tokens = torch.randint(1, 1000, (200, 50))
    kept = TokenAugment(0.3)(tokens, generator())
    assert ((kept == tokens) | (kept == 0)).all()
    assert (kept == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    filled = TokenAugment(0.3)(torch.nn.functional.pad(tokens, (0, 7)), generator())
    assert torch.equal(filled[:, :50], kept)
    assert not filled[:, 50:].any()
    alone = TokenAugment(0.9)(torch.tensor([[5, 0, 0], [0, 0, 0]]).repeat(20, 1), generator())
    assert (alone[::2, 0] == 5).all(), "a text keeps one token at least"
    assert not alone[1::2].any()


def test_words_are_left_out_of_texts():
    texts = ["a b c d e f g h", "", "word", "x  y"]
    shorter = TokenAugment(0.5)(texts, generator())
    assert [len(text.split()) <= len(whole.split()) for text, whole in zip(shorter, texts, strict=True)] == [True] * 4
    assert shorter[1:3] == ["", "word"]
    assert 0 < len(shorter[0].split()) < 8
    assert set(shorter[0].split()) < set(texts[0].split())


def test_the_grid_equals_that_of_torch():
    theta = torch.randn(6, 2, 3, generator=generator())
    torch.testing.assert_close(_grid(theta, 5, 9), functional.affine_grid(theta, [6, 1, 5, 9], align_corners=False))


def test_a_shift_is_in_pixels_and_bounded():
    images = blobs(500)
    moved = centre(AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=2.0)(images, generator())) - centre(images)
    assert moved.abs().max() < 2.05
    assert moved.abs().max() > 1.7
    assert moved.mean(0).abs().max() < 0.15


def test_a_rotation_is_in_radians_and_keeps_the_shape():
    size = 64
    images = blobs(300, size)
    before = centre(images)[0] - size / 2
    turned = centre(AffineAugment(rotate=0.5, shear=0.0, scale=0.0, shift=0.0)(images, generator())) - size / 2
    angle = torch.atan2(turned[:, 1], turned[:, 0]) - torch.atan2(before[1], before[0])
    assert angle.abs().max() < 0.53
    assert angle.abs().max() > 0.45
    torch.testing.assert_close(turned.norm(dim=1), before.norm().expand(300), atol=0.4, rtol=0)


def test_a_rotation_of_a_wide_image_is_no_shear():
    wide = functional.pad(blobs(1, 32), (32, 32)).expand(50, -1, -1, -1)
    turned = AffineAugment(rotate=0.4, shear=0.0, scale=0.0, shift=0.0)(wide, generator())
    torch.testing.assert_close(turned.sum((1, 2, 3)), wide.sum((1, 2, 3)), rtol=0.02, atol=0)
    assert (centre_of_wide(turned) - centre_of_wide(wide)).norm(dim=1).max() < 5


def centre_of_wide(images):
    x, y = torch.arange(images.shape[3]) + 0.5, torch.arange(images.shape[2]) + 0.5
    mass = images.sum((1, 2, 3))
    return torch.stack([(images.sum((1, 2)) * x).sum(1) / mass, (images.sum((1, 3)) * y).sum(1) / mass], 1)


def test_the_border_continues_outwards():
    images = torch.full((50, 1, 16, 16), 0.7)
    changed = AffineAugment(rotate=0.5, shear=0.5, scale=0.5, shift=6.0)(images, generator())
    torch.testing.assert_close(changed, images)


def test_a_flip_mirrors_half_of_the_images():
    images = blobs(400)
    flipped = AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=0.0, flip=True)(images, generator())
    is_mirrored = (flipped - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    is_same = (flipped - images).abs().amax((1, 2, 3)) < 1e-4
    assert (is_mirrored ^ is_same).all()
    assert 150 < is_mirrored.sum() < 250


def test_a_crop_magnifies_and_stays_inside():
    ramp = torch.linspace(0, 1, 32).expand(300, 1, 32, 32)
    cropped = AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=0.0, crop=0.25)(ramp, generator())
    span = cropped[:, 0, 16, -1] - cropped[:, 0, 16, 0]
    assert span.max() <= 1.001
    assert span.min() < 0.6
    assert span.min() > 0.4  # a quarter of the area, at most 4/3 times as high as wide: 0.43 of the width
    assert cropped[:, 0, 16, 0].max() > 0.3  # off to a side too


def test_light_changes_each_image_by_itself():
    images = blobs(200)
    brighter = AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=0.0, brightness=0.3)(images, generator())
    change = (brighter - images).mean((1, 2, 3))
    torch.testing.assert_close(brighter - images, change[:, None, None, None].expand_as(images), atol=1e-5, rtol=0)
    assert 0.25 < change.abs().max() <= 0.3 + 1e-5
    sharper = AffineAugment(rotate=0.0, shear=0.0, scale=0.0, shift=0.0, contrast=0.3)(images, generator())
    torch.testing.assert_close(sharper.mean((1, 2, 3)), images.mean((1, 2, 3)))
    ratio = sharper.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.7 - 1e-4 <= ratio.min() < 0.75
    assert 1.25 < ratio.max() <= 1.3 + 1e-4


@pytest.mark.parametrize("shape", [(64, 20), (64, 3, 50)], ids=["vectors", "series"])
def test_noise_scale_and_drop(shape):
    inputs = torch.ones(shape)
    noisy = NoiseAugment(noise=0.5)(inputs, generator())
    assert (noisy - inputs).std() == pytest.approx(0.5, rel=0.1)
    scaled = NoiseAugment(noise=0.0, scale=0.2)(inputs, generator()).flatten(1)
    assert (scaled == scaled[:, :1]).all()
    assert 0.8 <= scaled.min() < scaled.max() <= 1.2
    dropped = NoiseAugment(noise=0.0, drop=0.3)(inputs, generator())
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.05)


def test_inputs_are_left_alone():
    for augment in (AffineAugment(brightness=0.5), NoiseAugment(0.1, 0.1, 0.1)):
        images = blobs(3)
        before = images.clone()
        augment(images, generator())
        assert torch.equal(images, before)


def test_the_registry_knows_the_augmentations():
    assert list(registry) == ["affine", "callable", "noise", "series", "tokens"]
