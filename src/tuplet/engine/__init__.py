"""The pass over anchors × references: tiles, reductions, gradients, processes."""

from tuplet.engine.execution import Execution
from tuplet.engine.gather import SINGLE_PROCESS, Processes, gather
from tuplet.engine.program import Program
from tuplet.engine.reduction import Outcome, Partial, Reduction, Tile, combine
from tuplet.engine.reference import reference
from tuplet.engine.stream import stream

__all__ = [
    "SINGLE_PROCESS",
    "Execution",
    "Outcome",
    "Partial",
    "Processes",
    "Program",
    "Reduction",
    "Tile",
    "combine",
    "gather",
    "reference",
    "stream",
]
