"""What a pass is about: the tile code, constants of rows and columns, and how much may be held."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuplet.engine.gather import SINGLE_PROCESS, Processes
from tuplet.engine.ring import Ring
from tuplet.engine.tilecode import Spec, Values
from tuplet.geometry import Geometry
from tuplet.margin import Margin
from tuplet.relation import Relation

HEAD_ENTRIES = 6 * 2**20
"""Most scores in a tile of class weights: with their score gradients 48 MB."""


@dataclass(frozen=True)
class Budget:
    """How much a pass may hold.

    Args:
        entries: Most numbers in a tile.
        tile_rows: Rows of a tile where rows are cut into columns.
        compiled: True to run the tile code compiled.
        kernels: How Triton's kernels multiply float32, where they are asked for.
    """

    entries: int
    tile_rows: int = 4096
    compiled: bool = False
    kernels: str | None = None


@dataclass(frozen=True)
class Problem:
    """All of a pass but the tensors that may have gradients.

    Args:
        spec: What is fixed about the tile code.
        rows: Constants of the anchors.
        cols: Constants of the references.
        names: "row:…", "col:…" or "scalar:…" of the further differentiable tensors, in their order.
        budget: How much may be held.
        processes: Who adds up losses and counts.
        shards: Who has other references of the same anchors.
        unit_cols: True to scale references to length one, in the tile, and to project their gradient.
        low: Type in which matrix products take their operands; None for that of the embeddings.
        ring: Processes that have a block of the references each; None if all references are here.
        margin: What becomes of the scores of positives, and the position of each anchor's, -1 for none; or None.
        scored_by: What scores tiles and takes their gradients back, and what knows their masks, where tile code runs as
            it is written on a CPU.
        stat_names: Of the statistics that a pass returned.
    """

    spec: Spec
    rows: Values
    cols: Values
    names: tuple[str, ...]
    budget: Budget
    processes: Processes = SINGLE_PROCESS
    shards: Processes = SINGLE_PROCESS
    unit_cols: bool = False
    low: torch.dtype | None = None
    ring: Ring | None = None
    margin: tuple[Margin, Tensor] | None = None
    scored_by: tuple[Geometry, Relation] | None = None
    stat_names: list[str] = field(default_factory=list)
