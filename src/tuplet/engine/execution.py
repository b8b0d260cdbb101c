"""How the passes of a loss are carried out: on what, with how much memory, in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from tuplet.engine.tiles import TILE_SIZE

Precision = Literal["exact", "tf32", "bfloat16"]

MEMORY = 2**28
"""Bytes that a pass may hold on an accelerator when nothing is said."""


COMPILED = ("cuda", "xpu")
"""Kinds of accelerators for which there is a compiler of tile code."""


MOST_GATHERED = 2**24
"""Numbers in the embeddings of all processes up to which each gets all of them."""

SMALL = 2**16
"""With fewer pairs than this, compiling does not pay."""


@dataclass(frozen=True)
class Execution:
    """How the passes of a loss are carried out; none of it changes the result but `precision`.

    Args:
        engine: "panels" takes panels that fit a CPU's caches; "tiles" runs tile code between matrix products, without
            reading values back; "triton" has products, tile code and sums in one Triton kernel for each pass, where the
            tile code can be printed as one, and runs tiles elsewhere. "auto" takes tiles on accelerators.
        memory: Bytes that a pass may hold beside the embeddings and their gradients.
        compiled: True to compile the tile code; None to do so on accelerators that have a compiler.
        precision: "exact" multiplies in the embeddings' type; "tf32" lets an accelerator round the operands of float32
            products to 11 bits, "bfloat16" to 8. Sums are float32 at least in all of them.
        check: When an accelerator is asked whether the numbers of a call are finite and its labels in range: "now",
            one read back per call; "deferred", at the next call of the module; "off", never. On the CPU always now.
        exchange: How several processes meet each other's embeddings: "gather" brings all of them to each, "ring"
            passes blocks round, so that each holds its own and one other, and takes a product more. "auto" takes the
            ring where all together are more than 64 MB. Panels always gather, and so do losses that need whole rows.
        graphs: True to record small calls of a loss module on CUDA as a graph when the same shapes come again, and to
            replay it; see `tuplet.losses.replay`.
    """

    engine: Literal["auto", "panels", "tiles", "triton"] = "auto"
    memory: int = MEMORY
    compiled: bool | None = None
    precision: Precision = "exact"
    check: Literal["now", "deferred", "off"] = "now"
    exchange: Literal["auto", "gather", "ring"] = "auto"
    graphs: bool = True

    def takes_ring(self, rows: int, dim: int, size: int, device: torch.device) -> bool:
        """Whether the embeddings of so many processes, `rows` on this one at most, travel round a ring."""
        if size == 1 or not uses_tiles(self, device):
            return False
        return self.exchange == "ring" or (self.exchange == "auto" and rows * size * dim > MOST_GATHERED)

    def low(self, given: torch.dtype, device: torch.device) -> torch.dtype | None:
        """Type of the operands of products; None for float32 or float64. bfloat16 that is given stays it."""
        arrives_low = given == torch.bfloat16 and device.type != "cpu"
        return torch.bfloat16 if arrives_low or self.precision == "bfloat16" else None

    def compiles(self, device: torch.device, pairs: int) -> bool:
        """Whether tile code is compiled for so many pairs of anchors and references."""
        return (device.type in COMPILED and pairs >= SMALL) if self.compiled is None else self.compiled

    def kernels(self, device: torch.device) -> str | None:
        """How Triton multiplies float32 where its kernels are asked for: three products of 11 bits are exact."""
        if self.engine != "triton":
            return None
        if device.type != "cuda" or torch.version.hip is not None:
            return "ieee"
        return "tf32" if self.precision == "tf32" else "tf32x3"

    def entries(self, like: torch.Tensor) -> int:
        """Most numbers in a tile of scores when nothing is said: on a CPU what its caches gain from."""
        return min(self.room(like), TILE_SIZE) if like.device.type == "cpu" else self.room(like)

    def room(self, like: torch.Tensor) -> int:
        """Most numbers in a tile for which there is memory."""
        return self.memory // (like.element_size() * 2)

    @contextmanager
    def products(self, device: torch.device) -> Iterator[None]:
        """Matrix products in the precision that was asked for, whatever the process's own setting is."""
        if device.type != "cuda":
            yield
            return
        matmul = torch.backends.cuda.matmul
        before = matmul.allow_tf32
        matmul.allow_tf32 = self.precision == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32 = before


DEFAULT = Execution()


def uses_tiles(execution: Execution, device: torch.device) -> bool:
    """Whether tile code runs rather than panels."""
    return execution.engine in {"tiles", "triton"} or (execution.engine == "auto" and device.type != "cpu")
