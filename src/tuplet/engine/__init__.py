"""The walk over anchors × references: tiles, reductions, gradients, processes."""

from tuplet.engine.gather import ALONE, Processes, gather
from tuplet.engine.reduction import Outcome, Partial, Reduction, Tile, combine, from_rows
from tuplet.engine.reference import reference
from tuplet.engine.stream import stream

__all__ = [
    "ALONE",
    "Outcome",
    "Partial",
    "Processes",
    "Reduction",
    "Tile",
    "combine",
    "from_rows",
    "gather",
    "reference",
    "stream",
]
