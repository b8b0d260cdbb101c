"""An encoder together with all it takes to use it elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tuplet.types import GeometryName


class Embedder(nn.Module):
    """Encoder with its preprocessing, geometry and thresholds."""

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: Any,
        *,
        encoder_config: Mapping[str, Any],
        geometry: GeometryName = "cosine",
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, stored: Any) -> Float[Tensor, "n dim"]:
        """Embeddings of stored inputs: preprocessing, then encoder."""
        raise NotImplementedError

    def embed(
        self, items: Any, *, batch_size: int = 256, progress: Callable[[int, int], None] | None = None
    ) -> Float[Tensor, "n dim"]:
        """Embeddings of paths, rows, texts, arrays or a data set, on the CPU; `progress` gets (done, total)."""
        raise NotImplementedError

    def stream(self, items: Any, *, batch_size: int = 256) -> Iterator[Float[Tensor, "rows dim"]]:
        """The same, batch by batch."""
        raise NotImplementedError

    def save(self, folder: Path | str) -> None:
        """Write `embedder.json` and `weights.safetensors`, atomically."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path | str) -> "Embedder":
        """Read what `save` wrote."""
        raise NotImplementedError

    def content_hash(self) -> str:
        """Hash over weights, encoder, preprocessing and geometry; thresholds do not change it."""
        raise NotImplementedError
