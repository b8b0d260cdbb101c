"""Embedders as files that run without tuplet."""

from pathlib import Path
from typing import Any

from tuplet.models.embedder import Embedder


def export(embedder: Embedder, path: Path | str, *, example: Any = None) -> float:
    """Write `.pt2` (torch.export) or `.onnx`; returns the largest difference of the reloaded file's outputs."""
    raise NotImplementedError
