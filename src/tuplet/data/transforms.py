"""Preprocessing: from items (files, rows, texts) to their stored form, and from there to what an encoder reads.

A preprocessing is a frozen record of numbers, so that it can be saved beside the weights: `load` runs once per example,
`__call__` once per step, on a batch that may already be on the device.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tuplet.data.audio import load_sounds
from tuplet.data.dataset import Inputs, Preprocessing
from tuplet.data.images import EIGHT_BITS, FitBy, Resample, decode_images, find_levels
from tuplet.data.manifest import Kind
from tuplet.data.numbers import BLOCK, as_floats, is_wide, loses, moments, require_finite, standardised, wrong_shape
from tuplet.data.text import hash_texts
from tuplet.data.words import WordPreprocessing
from tuplet.errors import DataError
from tuplet.registry import did_you_mean


class _Config:
    """JSON form of a frozen dataclass with a kind."""

    kind: ClassVar[Kind]

    def to_config(self) -> dict[str, Any]:
        """JSON form; `preprocessing_from_config` reads it back."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class ImagePreprocessing(_Config):
    """Square images of one size, decoded once and normalised per channel.

    Args:
        size: Height and width in pixels.
        channels: 1 for grey, 3 for colour.
        mean: Mean of each channel (or of all), in units where white is 1.
        std: Standard deviation of each channel (or of all), > 0, in the same units.
        fit_by: How another shape becomes a square: "crop" the middle, "pad" with the border's colour, or "stretch".
        levels: Values of black and white in images of more than 8 bits; empty for the least and largest value of the
            data set, which training finds and keeps.
        resize: What the shorter side becomes before the middle is cropped, as a pretrained encoder may expect it; 0
            crops as much as fits.
        resample: The filter by which images are brought to another size.
        fixed: `mean` and `std` are those of a pretrained encoder, and stay as they are.
    """

    kind: ClassVar[Kind] = "image"
    size: int = 32
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    fit_by: FitBy = "crop"
    levels: tuple[float, ...] = ()
    resize: int = 0
    resample: Resample = "bilinear"
    fixed: bool = False

    def __post_init__(self) -> None:
        if 0 != self.resize < self.size:
            raise ValueError(f"resize is 0, or at least the size of {self.size}, not {self.resize}")
        if self.size < 1 or self.channels not in (1, 3):
            raise ValueError(f"images have 1 or 3 channels and at least one pixel, not {self.channels} and {self.size}")
        if self.levels and (len(self.levels) != 2 or not self.levels[0] <= self.levels[1]):
            raise ValueError(f"levels are the values of black and white, in this order, not {self.levels}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"mean is finite and std above 0, not {self.mean} and {self.std}")

    def load(self, items: Any) -> Tensor:
        """Decode files, Pillow images or arrays to uint8 (n, channels, size, size).

        Without `levels`, images of more than 8 bits are scaled by the least and largest value among `items`.
        """
        levels = (self.levels[0], self.levels[1]) if self.levels else None
        how: dict[str, Any] = {"resize": self.resize, "resample": self.resample}
        return decode_images(items, self.size, self.channels, self.fit_by, levels=levels, **how)

    def to_config(self) -> dict[str, Any]:
        """JSON form, without what is as it was before there was a choice: saved models keep their hashes."""
        usual = {"resize": 0, "resample": "bilinear", "fixed": False}
        return {key: value for key, value in super().to_config().items() if usual.get(key, ...) != value}

    def with_levels(self, items: Any) -> "ImagePreprocessing":
        """The same with the levels of a data set, if none are given: of 8 bits if none of its images has more."""
        return self if self.levels else replace(self, levels=find_levels(items) or EIGHT_BITS)

    def fit(self, inputs: Inputs) -> "ImagePreprocessing":
        """Measure mean and standard deviation of each channel, unless they are fixed."""
        if self.fixed:
            return self
        images = _tensor(inputs)
        values = torch.arange(256, dtype=torch.float64) / 255
        counts = torch.zeros(self.channels, 256, dtype=torch.int64)
        for block in torch.split(images, max(1, BLOCK // max(1, images[:1].numel()))):
            for channel in range(self.channels):
                counts[channel] += torch.bincount(block[:, channel].flatten(), minlength=256)
        shares = counts.double() / max(1, images[:, 0].numel())
        mean = shares @ values
        std = (shares @ values.square() - mean.square()).clamp_min(0).sqrt()
        return replace(self, mean=_numbers(mean), std=_numbers(std.where(std > 1e-6, 1.0)))

    def __call__(self, inputs: Tensor) -> Float[Tensor, "n channels size size"]:
        """Normalise uint8 images."""
        mean, std = (torch.tensor(numbers, device=inputs.device)[:, None, None] for numbers in (self.mean, self.std))
        return inputs * (1 / (255 * std)) - mean / std


@dataclass(frozen=True)
class VectorPreprocessing(_Config):
    """Rows of numbers, each column centred and scaled.

    Args:
        mean: Mean of each column; empty for no centring.
        scale: Standard deviation of each column, > 0; empty for no scaling.
    """

    kind: ClassVar[Kind] = "vector"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def load(self, items: Any) -> Float[Tensor, "n dim"]:
        """Rows as float32; an array of float32 is not copied, so it may be memory-mapped.

        Numbers that float32 cannot tell apart, such as times in seconds since 1970, stay in float64 until they are
        centred.
        """
        rows = as_floats(items, "Rows of numbers", "(n, dim)", self._is_wide)
        if rows.ndim != 2:
            raise wrong_shape("Rows of numbers", "(n, dim)", rows.shape)
        if self.mean and rows.shape[1] != len(self.mean):
            raise wrong_shape("Rows of numbers", f"(n, {len(self.mean)})", rows.shape)
        return require_finite(rows, "row")

    @property
    def _is_wide(self) -> bool | None:
        return is_wide(self.mean, self.scale) if self.mean and self.scale else None

    def fit(self, inputs: Inputs) -> "VectorPreprocessing":
        """Measure mean and standard deviation of each column; a constant column is only centred."""
        mean, std = moments(_tensor(inputs)[:, :, None])
        return replace(self, mean=_numbers(mean), scale=_numbers(std))

    def __call__(self, inputs: Tensor) -> Float[Tensor, "n dim"]:
        """Centre and scale."""
        return standardised(_at_least_single(inputs), self.mean, self.scale).float()


@dataclass(frozen=True)
class SeriesPreprocessing(_Config):
    """Series of one length, each channel centred and scaled.

    What is filled up after the end of a short series is zero in every channel, also after scaling.

    Args:
        channels: Channels of a series; 0 for those of the training series.
        length: Time steps the encoder reads; 0 for the longest training series.
        mean: Mean of each channel; empty for no centring.
        scale: Standard deviation of each channel, > 0; empty for no scaling.
        fit_by: How another length becomes `length`: "pad" with zeros after the end (or cut there), or "resample".
        per_series: Centre and scale each series by its own statistics instead.
        rate: Samples a second of sounds, which are read from files; 0 for series that are arrays.
        mels: Bands of the logarithmic mel spectrogram that a sound becomes; 0 for its samples, one channel.
        window: Seconds of a frame of the spectrogram.
        hop: Seconds from one frame to the next.
        fixed: Sounds are neither centred nor scaled, as a pretrained encoder may expect them.
    """

    kind: ClassVar[Kind] = "series"
    channels: int = 0
    length: int = 0
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    fit_by: Literal["pad", "resample"] = "pad"
    per_series: bool = False
    rate: int = 0
    mels: int = 64
    window: float = 0.025
    hop: float = 0.01
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.rate < 0 or self.mels < 0 or not 0 < self.hop < math.inf or not 0 < self.window < math.inf:
            raise ValueError(f"rate and mels are 0 or more, window and hop seconds above 0: {self}")

    def to_config(self) -> dict[str, Any]:
        """JSON form; that of series which are arrays says nothing of sounds, so saved models keep their hashes."""
        usual = {} if self.rate else {"rate": 0, "mels": self.mels, "window": self.window, "hop": self.hop}
        usual["fixed"] = False
        return {key: value for key, value in super().to_config().items() if key not in usual or usual[key] != value}

    def load(self, items: Any) -> Tensor | list[Tensor]:
        """Series as float32, or wider where rows would be; files of sound are decoded.

        Returns:
            One tensor (n, channels, time) if lengths are equal, else a list of (channels, time).
        """
        if self.rate and len(items) and isinstance(items[0], (str, Path)):
            items = load_sounds(items, self.rate, mels=self.mels, window=self.window, hop=self.hop)
        if isinstance(items, (np.ndarray, Tensor)):
            together = as_floats(items, "Series", "(n, channels, time)", self._is_wide)
            together = together[:, None] if together.ndim == 2 else together
            if together.ndim != 3 or self.channels not in (0, together.shape[1]):
                raise wrong_shape("Series", f"(n, {self.channels or 'channels'}, time)", together.shape)
            return require_finite(together, "series")
        wide = self._is_wide
        if wide is None:
            wide = any(loses(np.asanyarray(item), axis=max(0, np.ndim(item) - 2)) for item in items)
        series = [as_floats(item, "A series", "(channels, time)", wide) for item in items]
        series = [one[None] if one.ndim == 1 else one for one in series]
        channels = self.channels or len(series[0])
        for one in series:
            if one.ndim != 2 or len(one) != channels:
                raise wrong_shape("A series", f"({channels}, time)", one.shape)
        require_finite(torch.stack([one.sum() for one in series])[:, None], "series")
        return torch.stack(series) if len({one.shape[1] for one in series}) == 1 else series

    @property
    def _is_wide(self) -> bool | None:
        return is_wide(self.mean, self.scale) if self.mean and self.scale else None

    def fit(self, inputs: Inputs) -> "SeriesPreprocessing":
        """Measure mean and standard deviation of each channel, and what is 0 of `channels` and `length`."""
        shapes = [one.shape for one in inputs if isinstance(one, Tensor)]
        longest = max(length for _, length in shapes)
        fitted = replace(self, channels=self.channels or shapes[0][0], length=self.length or longest)
        if self.per_series or self.fixed:
            return fitted
        if not isinstance(inputs, Tensor):
            inputs = torch.cat([one for one in inputs if isinstance(one, Tensor)], dim=1)[None]
        mean, std = moments(inputs)
        return replace(fitted, mean=_numbers(mean), scale=_numbers(std))

    def __call__(self, inputs: Tensor | list[Tensor]) -> Float[Tensor, "n channels length"]:
        """Bring to one length, centre, scale."""
        length = self.length or max(one.shape[-1] for one in inputs)
        if self.fit_by == "resample":
            batches = [inputs] if isinstance(inputs, Tensor) else [one[None] for one in inputs]
            scaled = [functional.interpolate(one, length, mode="linear", align_corners=True) for one in batches]
            series, lengths = torch.cat(scaled), torch.full((len(inputs),), length)
        else:
            cut = [one[:, :length].T for one in inputs]
            lengths = torch.tensor([len(one) for one in cut])
            padded = pad_sequence(cut, batch_first=True).transpose(1, 2)  # (n, channels, longest)
            series = functional.pad(padded, (0, length - padded.shape[2]))
        real = (torch.arange(length) < lengths[:, None]).to(series.device)[:, None]  # (n, 1, length)
        if not self.per_series:
            return (standardised(series.transpose(1, 2), self.mean, self.scale).transpose(1, 2) * real).float()
        count = real.sum(2, keepdim=True)
        centred = (series - series.sum(2, keepdim=True) / count) * real
        std = (centred.square().sum(2, keepdim=True) / count).sqrt()
        unit = torch.finfo(series.dtype).eps * series.abs().amax(2, keepdim=True)
        return (centred / std.where(std > 4 * unit + torch.finfo(torch.float32).tiny, 1.0)).float()


@dataclass(frozen=True)
class TextPreprocessing(_Config):
    """Texts as bags of hashed words and character n-grams.

    A text is stored as the ids of its tokens, in [1, `buckets`); an encoder reads them filled up with 0.

    Args:
        buckets: Size of the id space, including 0.
        shortest: Length of the shortest character n-gram; 0 for none.
        longest: Length of the longest.
        words: Whole words are tokens too.
        lower: Case is ignored.
        most: Tokens kept of one text.
        hashed: False hands the texts themselves to the encoder, for a pretrained one with its own tokens.
    """

    kind: ClassVar[Kind] = "text"
    buckets: int = 65536
    shortest: int = 3
    longest: int = 5
    words: bool = True
    lower: bool = True
    most: int = 2048
    hashed: bool = True

    def __post_init__(self) -> None:
        if self.buckets < 2 or not 0 <= self.shortest <= self.longest or self.most < 1:
            raise ValueError(f"there is nothing to hash to: {self}")

    def load(self, items: Any) -> list[Tensor] | list[str]:
        """Token ids of each text, or the texts."""
        texts = [str(item) for item in items]
        if not self.hashed:
            return texts
        return hash_texts(
            texts,
            buckets=self.buckets,
            shortest=self.shortest,
            longest=self.longest,
            words=self.words,
            lower=self.lower,
            most=self.most,
        )

    def fit(self, inputs: Inputs) -> "TextPreprocessing":
        """Hashing has no statistics."""
        del inputs
        return self

    def __call__(self, inputs: list[Tensor] | list[str]) -> Int64[Tensor, "n tokens"] | list[str]:
        """Token ids filled up with 0, or the texts."""
        tokens = [one for one in inputs if isinstance(one, Tensor)]
        if len(tokens) < len(inputs):
            return [one for one in inputs if isinstance(one, str)]
        padded = pad_sequence(tokens, batch_first=True).long()
        return functional.pad(padded, (0, 1)) if not padded.shape[1] else padded  # all texts may be empty


_KINDS: dict[str, type[Any]] = {
    known.kind: known
    for known in (ImagePreprocessing, VectorPreprocessing, SeriesPreprocessing, TextPreprocessing, WordPreprocessing)
}


def preprocessing_from_config(config: Mapping[str, Any]) -> Preprocessing:
    """Reads back what `to_config` wrote.

    Raises:
        DataError: The kind or an option is unknown.
    """
    kind = config.get("kind")
    if kind not in _KINDS:
        raise DataError(
            f"There is no preprocessing of kind {kind!r}.",
            hint=did_you_mean(str(kind), [*_KINDS]),
            reference="unknown-preprocessing",
        )
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    del options["kind"]
    known = [field.name for field in fields(_KINDS[kind])]
    for name in options:
        if name not in known:
            raise DataError(
                f"Preprocessing of kind {kind!r} has no option {name!r}.",
                hint=did_you_mean(name, known),
                reference="unknown-preprocessing",
            )
    return _KINDS[kind](**options)


def _tensor(inputs: Inputs) -> Tensor:
    assert isinstance(inputs, Tensor)  # noqa: S101  a list comes only from the preprocessing of another kind
    return inputs


def _at_least_single(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())
