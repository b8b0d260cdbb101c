"""Random changes of encoder inputs that keep their class: one call for a whole batch, decided by a generator.

Augmentations act between preprocessing and encoder: `encoder(augment(preprocessing(stored), generator))`. Where several
processes share a batch, `Draws` in the place of the generator give each the changes that its rows get on one process.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tuplet.bounds import Chance, NotNegative, Number, Part, Share
from tuplet.data.manifest import Kind
from tuplet.errors import RecipeError, ShapeError
from tuplet.foreign import import_named, made
from tuplet.registry import Registry
from tuplet.seeding import Draws

_ASPECT = math.log(4 / 3)  # a crop is at most 4/3 times as wide as high, or the reverse


@runtime_checkable
class Augmentation(Protocol):
    """A random change of a batch of encoder inputs."""

    def __call__(self, inputs: Any, draws: Draws) -> Any:
        """The changed batch; of series it may be a part."""


registry: Registry[Callable[..., Augmentation]] = Registry("augmentation")
register = registry.register


@register("affine")
@dataclass(frozen=True)
class AffineAugment:
    """Images turned, sheared, scaled and shifted a little, and as options cropped, mirrored and lit differently.

    Args:
        rotate: Largest rotation in radians, both ways.
        shear: Largest shear, as tangent.
        scale: Largest change of scale, as a fraction, in each direction on its own.
        shift: Largest shift in pixels, both ways.
        crop: Smallest part of the area that is kept, in (0, 1]; 1 does not crop.
        flip: Mirror left and right with probability one half.
        brightness: Largest change of brightness, in units of the encoder's input.
        contrast: Largest change of contrast, as a fraction.
        channel: Largest change of brightness of each channel on its own, in units of the encoder's input.
        grey: Probability that all channels become their mean.
        noise: Standard deviation of Gaussian noise on each pixel, in units of the encoder's input.
    """

    rotate: NotNegative = 0.05
    shear: NotNegative = 0.1
    scale: NotNegative = 0.07
    shift: NotNegative = 0.5
    crop: Part = 1.0
    flip: bool = False
    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    channel: NotNegative = 0.0
    grey: Chance = 0.0
    noise: NotNegative = 0.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is the smallest part that is kept, above 0 and at most 1, not {self.crop}")
        _require_at_least_0(self, "rotate", "shear", "scale", "shift", "brightness", "contrast", "channel", "noise")
        if self.scale >= 1 or not 0 <= self.grey <= 1:
            raise ValueError(f"scale is below 1 and grey a probability, not {self.scale} and {self.grey}")

    def __call__(
        self, inputs: Float[Tensor, "n channels height width"], draws: Draws | torch.Generator
    ) -> Float[Tensor, "n channels height width"]:
        """Draw one change for each image and apply them all at once; the border is continued outwards."""
        height, width = inputs.shape[2:]
        draws = Draws.of(draws)
        uniform = draws.rand(len(inputs), 13).to(inputs)
        grid = _grid(self._matrices(uniform[:, :11], height, width), height, width)
        images = functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)
        if self.brightness or self.contrast:
            brighter, sharper = (2 * uniform[:, 11:, None, None, None] - 1).unbind(1)  # each (n, 1, 1, 1)
            mean = images.mean((1, 2, 3), keepdim=True)
            images = (images - mean) * (1 + self.contrast * sharper) + mean + self.brightness * brighter
        return self._coloured(images, draws)

    def _coloured(self, images: Tensor, draws: Draws) -> Tensor:
        """Each channel lit differently, or none distinguished from the others, and noise; what is 0 draws nothing."""
        count, channels = images.shape[:2]
        if self.channel:
            images = images + self.channel * (2 * draws.rand(count, channels, 1, 1).to(images) - 1)
        if self.grey:
            is_grey = draws.rand(count, 1, 1, 1).to(images) < self.grey
            images = torch.where(is_grey, images.mean(1, keepdim=True), images)
        return images + self.noise * draws.randn(*images.shape).to(images) if self.noise else images

    def _matrices(self, uniform: Tensor, height: int, width: int) -> Tensor:
        """Where each pixel of the result is read, in coordinates from -1 to 1: (n, 2, 3)."""
        turn, lean, wide, high, right, down = (2 * uniform[:, :6] - 1).unbind(1)
        mirror, area, aspect, across, along = uniform[:, 6:].unbind(1)
        sine, cosine = (self.rotate * turn).sin(), (self.rotate * turn).cos()
        part = 1 - (1 - self.crop) * area
        stretch = (_ASPECT * (2 * aspect - 1)).exp() if self.crop < 1 else torch.ones_like(part)
        window_x, window_y = (part * stretch).sqrt().clamp_max(1), (part / stretch).sqrt().clamp_max(1)
        scale_x = (1 + self.scale * wide) * window_x
        scale_y = (1 + self.scale * high) * window_y
        side = 1 - 2 * (mirror < 0.5).to(uniform) if self.flip else torch.ones_like(part)
        slant = self.shear * lean
        # rotation · shear · scale, in pixels; then from pixels to coordinates
        xx, xy = cosine * scale_x * side, (cosine * slant - sine) * scale_y * (height / width)
        yx, yy = sine * scale_x * side * (width / height), (sine * slant + cosine) * scale_y
        x = (2 * across - 1) * (1 - window_x) + 2 * self.shift * right / width
        y = (2 * along - 1) * (1 - window_y) + 2 * self.shift * down / height
        return torch.stack([torch.stack([xx, xy, x], 1), torch.stack([yx, yy, y], 1)], 1)


def _grid(theta: Float[Tensor, "n 2 3"], height: int, width: int) -> Float[Tensor, "n height width 2"]:
    """What `affine_grid` returns, 20 times faster: the sum of a part for each column and one for each row."""
    x, y = ((2 * torch.arange(side).to(theta) + 1) / side - 1 for side in (width, height))
    columns = torch.addcmul(theta[:, :, 2:], theta[:, :, :1], x)  # (n, 2, width)
    rows = theta[:, :, 1:2] * y  # (n, 2, height)
    return (columns[:, :, None] + rows[..., None]).permute(0, 2, 3, 1)


@register("noise")
@dataclass(frozen=True)
class NoiseAugment:
    """Numbers of any kind with noise, scaled, with some entries dropped.

    Args:
        noise: Standard deviation of Gaussian noise, in units of the encoder's input.
        scale: Largest change of scale of a whole example, as a fraction.
        drop: Probability that an entry is set to 0, in [0, 1).
    """

    noise: NotNegative = 0.1
    scale: NotNegative = 0.0
    drop: Share = 0.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({"image", "vector", "series"})

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is a probability below 1, not {self.drop}")
        _require_at_least_0(self, "noise", "scale")

    def __call__(self, inputs: Tensor, draws: Draws | torch.Generator) -> Tensor:
        """Draw each change for each example; an option of 0 draws nothing."""
        draws = Draws.of(draws)
        real = _inside(inputs) if inputs.ndim == 3 else None  # what fills up a series stays zero
        if self.scale:
            size = draws.rand(len(inputs), *(1 for _ in inputs.shape[1:])).to(inputs)
            inputs = inputs * (1 + self.scale * (2 * size - 1))
        if self.noise:
            inputs = inputs + self.noise * draws.randn(*inputs.shape).to(inputs)
        if self.drop:
            kept = draws.rand(*inputs.shape) >= self.drop
            inputs = inputs * kept.to(inputs)
        return inputs if real is None else inputs * real


@register("series")
@dataclass(frozen=True)
class SeriesAugment:
    """Series of which a random part is kept, scaled, hidden for a while, with noise.

    What is kept moves to the start; behind it is nothing, as behind the end of a short series.

    Args:
        window: Most steps that are kept of a series, at a random place; 0 keeps as many as there are.
        crop: Smallest part of its steps that is kept, in (0, 1]; 1 does not crop.
        noise: Standard deviation of Gaussian noise, in units of the encoder's input.
        scale: Largest change of scale of each channel, as a fraction.
        hide: Largest part of the steps that one random stretch of zeros hides, in [0, 1).
    """

    window: Number = 0
    crop: Part = 1.0
    noise: NotNegative = 0.0
    scale: NotNegative = 0.0
    hide: Share = 0.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({"series"})

    def __post_init__(self) -> None:
        if self.window < 0 or not 0 < self.crop <= 1 or not 0 <= self.hide < 1:
            raise ValueError(f"window counts steps, crop is above 0 and at most 1, hide below 1: {self}")
        _require_at_least_0(self, "noise", "scale")

    def __call__(
        self, inputs: Float[Tensor, "n channels steps"], draws: Draws | torch.Generator
    ) -> Float[Tensor, "n channels kept"]:
        """Draw each change for each series."""
        draws = Draws.of(draws)
        count, channels, steps = inputs.shape
        part, place, hidden, where = draws.rand(count, 4).to(inputs).unbind(1)
        lengths = _inside(inputs).sum((1, 2))
        kept = (lengths * (1 - (1 - self.crop) * part)).round().clamp_min(1)
        kept = kept.clamp_max(self.window) if self.window else kept
        start = (place * (lengths - kept + 1)).floor().clamp_min(0)
        time = torch.arange(min(self.window or steps, steps), device=inputs.device)
        read = (start[:, None] + time).clamp_max(steps - 1).long()
        series = inputs.gather(2, read[:, None].expand(-1, channels, -1))
        if self.scale:
            series = series * (1 + self.scale * (2 * draws.rand(count, channels, 1).to(inputs) - 1))
        if self.noise:
            series = series + self.noise * draws.randn(*series.shape).to(inputs)
        length = (self.hide * hidden * kept).floor()
        begin = (where * (kept - length + 1)).floor()
        is_seen = (time < begin[:, None]) | (time >= (begin + length)[:, None])
        return series * (is_seen & (time < kept[:, None]))[:, None]


@register("tokens")
@dataclass(frozen=True)
class TokenAugment:
    """Texts without some of their tokens; of a text that a pretrained encoder reads itself, without some of its words.

    Args:
        drop: Probability that a token is left out, in [0, 1). Each text keeps one token at least.
    """

    drop: Share = 0.2

    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is a probability below 1, not {self.drop}")

    def __call__(
        self, inputs: Int64[Tensor, "n most"] | list[str], draws: Draws | torch.Generator
    ) -> Int64[Tensor, "n most"] | list[str]:
        """One number is drawn for each text, which decides about all its tokens, however far others are filled up."""
        keys = (Draws.of(draws).rand(len(inputs), 1) * 2**24).long()
        if isinstance(inputs, Tensor):
            kept = self._kept(keys.to(inputs.device), inputs.shape[1], (inputs != 0).sum(1))
            return inputs * kept
        words = [text.split() for text in inputs]
        lengths = torch.tensor([len(text) for text in words])
        kept = self._kept(keys, max(1, int(lengths.max())), lengths)
        return [
            " ".join(word for word, is_kept in zip(text, row, strict=False) if is_kept)
            for text, row in zip(words, kept.tolist(), strict=True)
        ]

    def _kept(self, keys: Int64[Tensor, "n 1"], most: int, lengths: Int64[Tensor, " n"]) -> Bool[Tensor, "n most"]:
        """Which tokens stay; what stands before the end and has the largest number always does."""
        place = torch.arange(most, device=keys.device)
        chance = _scattered(keys, place).where(place < lengths[:, None], -1.0)
        return (chance >= self.drop) | (chance == chance.amax(1, keepdim=True))


@register("callable")
class CallableAugment:
    """Any random change that can be imported, by name or from a file.

    `train.augment = "my_changes.py:Blur"` is short for it. Its objects are called with a batch and with draws, whose
    `rand(n, ...)` and `randn(n, ...)` give a row of random numbers for each example. Nothing is imported without
    `--trust`, or `trust=True` in Python.

    Args:
        target: `package.module:Class`, or `file.py:Class`.
        options: Keyword arguments of its constructor.
        folder: Where the file is.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({"image", "vector", "series", "text"})

    def __init__(self, target: str, options: Mapping[str, Any] | None = None, folder: str | None = None) -> None:
        self.target = target
        constructor = import_named("augmentation", target, folder)
        is_class = isinstance(constructor, type)
        self._change: Any = made("augmentation", target, constructor, options) if is_class else None
        if not callable(self._change):
            raise RecipeError(
                f"{target} is not a class whose objects can be called.",
                hint="Give the class a method `__call__(self, inputs, draws)` that returns the changed batch.",
                reference="encoder-import",
            )

    def __call__(self, inputs: Any, draws: Draws | torch.Generator) -> Any:
        """The changed batch, with a row for each example."""
        changed = self._change(inputs, Draws.of(draws))
        is_alike = isinstance(changed, Tensor) == isinstance(inputs, Tensor)
        if not is_alike or len(changed) != len(inputs):
            found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise ShapeError(
                f"{self.target} returned {found} for a batch of {len(inputs)}.",
                hint="Return a batch of the same kind, with one row for each example.",
                reference="augmentation-output",
            )
        return changed


def _scattered(keys: Int64[Tensor, "n 1"], place: Int64[Tensor, " most"]) -> Float[Tensor, "n most"]:
    """Numbers in [0, 1) that look drawn at random, from key and place alone."""
    numbers = (keys * 0x9E3779B9 + place * 0x85EBCA6B + 1) & 0xFFFFFFFF
    for factor in (0x2C1B3C6D, 0x297A2D39):  # multiplied and reduced modulo 2^32
        numbers = ((numbers ^ (numbers >> 16)) * factor) & 0xFFFFFFFF
    return (numbers ^ (numbers >> 15)).double() / 2**32


def _require_at_least_0(options: object, *names: str) -> None:
    """Refuse a size that is negative, NaN or infinite."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is a finite number of 0 or more, not {value}")


def _inside(series: Float[Tensor, "n channels steps"]) -> Float[Tensor, "n 1 steps"]:
    """1 up to the last step of each series that is not zero, 0 behind it."""
    live = (series != 0).any(1, keepdim=True).to(series)
    return live.flip(2).cummax(2).values.flip(2)
