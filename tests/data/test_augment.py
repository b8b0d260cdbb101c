"""Random changes of a batch: what they do, and that a generator decides them."""

import time

import pytest
import torch
from torch.nn import functional

from tuplet.data.augment import AffineAugment, NoiseAugment, _grid, registry
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


def test_parts_of_a_batch_are_changed_as_they_are_in_the_whole():
    images = blobs(7)
    for augment in (AffineAugment(crop=0.5, flip=True, brightness=0.1, contrast=0.1), NoiseAugment(0.1, 0.1, 0.1)):
        parts, before = [], 0
        for part in images.split([3, 0, 4]):
            parts.append(augment(part, Draws(generator(1), before, len(images))))
            before += len(part)
        torch.testing.assert_close(torch.cat(parts), augment(images, generator(1)))


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


def test_a_batch_of_the_demo_takes_under_four_milliseconds():
    images = torch.rand(384, 1, 32, 32)
    augment, random = AffineAugment(), generator()
    times = []
    for _ in range(30):
        start = time.perf_counter()
        augment(images, random)
        times.append(time.perf_counter() - start)
    assert min(times) < 4e-3  # the machine may be busy: the best of thirty counts


def test_the_registry_knows_the_augmentations():
    assert list(registry) == ["affine", "noise"]
