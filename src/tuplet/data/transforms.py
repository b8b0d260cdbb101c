"""Preprocessing: from items (files, rows, texts) to their stored form, and from there to what an encoder reads.

A preprocessing is a frozen record of numbers, so that it can be saved beside the weights:
`load` runs once per example, `__call__` once per step on a batch that may already be on the device.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.data.dataset import Inputs
from tuplet.data.manifest import Items, Kind


class Preprocessing(Protocol):
    """What the four kinds of preprocessing have in common."""

    kind: ClassVar[Kind]

    def load(self, items: Items | Sequence[Any]) -> Inputs:
        """Stored form of some items; all items that cannot be read are reported together."""

    def fit(self, inputs: Inputs) -> Self:
        """A copy whose statistics are those of the training examples."""

    def __call__(self, inputs: Inputs) -> Tensor:
        """What the encoder reads."""

    def to_config(self) -> dict[str, Any]:
        """JSON form; `preprocessing_from_config` reads it back."""


@dataclass(frozen=True)
class ImagePreprocessing:
    """Square images of one size, decoded once and normalised per channel.

    Args:
        size: Height and width in pixels.
        channels: 1 for grey, 3 for colour.
        mean: Mean of each channel, in units where white is 1.
        std: Standard deviation of each channel, > 0, in the same units.
        fit_by: How another shape becomes a square: "crop" the middle, "pad" with the border's colour, or "stretch".
    """

    kind: ClassVar[Kind] = "image"
    size: int = 32
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    fit_by: Literal["crop", "pad", "stretch"] = "crop"

    def load(self, items: Items | Sequence[Any]) -> Tensor:
        raise NotImplementedError

    def fit(self, inputs: Inputs) -> Self:
        raise NotImplementedError

    def __call__(self, inputs: Inputs) -> Float[Tensor, "n channels size size"]:
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class VectorPreprocessing:
    """Rows of numbers, each column centred and scaled.

    Args:
        mean: Mean of each column; empty for no centring.
        scale: Standard deviation of each column, > 0; empty for no scaling.
    """

    kind: ClassVar[Kind] = "vector"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def load(self, items: Items | Sequence[Any]) -> Tensor:
        raise NotImplementedError

    def fit(self, inputs: Inputs) -> Self:
        raise NotImplementedError

    def __call__(self, inputs: Inputs) -> Float[Tensor, "n dim"]:
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class SeriesPreprocessing:
    """Series of one length, each channel centred and scaled.

    Args:
        channels: Channels of a series.
        length: Time steps the encoder sees.
        mean: Mean of each channel; empty for no centring.
        scale: Standard deviation of each channel, > 0; empty for no scaling.
        fit_by: How another length becomes `length`: "pad" with zeros after the end (and cut there), or "resample" linearly.
        per_series: Centre and scale each series by its own statistics instead.
    """

    kind: ClassVar[Kind] = "series"
    channels: int = 1
    length: int = 128
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    fit_by: Literal["pad", "resample"] = "pad"
    per_series: bool = False

    def load(self, items: Items | Sequence[Any]) -> Tensor | list[Tensor]:
        raise NotImplementedError

    def fit(self, inputs: Inputs) -> Self:
        raise NotImplementedError

    def __call__(self, inputs: Inputs) -> Float[Tensor, "n channels length"]:
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class TextPreprocessing:
    """Texts as bags of hashed words and character n-grams.

    A text is stored as the ids of its tokens, in [1, `buckets`); an encoder reads them padded with 0.

    Args:
        buckets: Size of the id space, including the padding id 0.
        shortest: Length of the shortest character n-gram; 0 for none.
        longest: Length of the longest.
        words: Whole words are tokens too.
        lower: Case is ignored.
        most: Tokens kept of one text.
    """

    kind: ClassVar[Kind] = "text"
    buckets: int = 65536
    shortest: int = 3
    longest: int = 5
    words: bool = True
    lower: bool = True
    most: int = 2048

    def load(self, items: Items | Sequence[Any]) -> list[Tensor]:
        raise NotImplementedError

    def fit(self, inputs: Inputs) -> Self:
        raise NotImplementedError

    def __call__(self, inputs: Inputs) -> Int64[Tensor, "n tokens"]:
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def preprocessing_from_config(config: dict[str, Any]) -> Preprocessing:
    """Reads back what `to_config` wrote.

    Raises:
        DataError: The kind or an option is unknown.
    """
    raise NotImplementedError
