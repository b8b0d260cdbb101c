"""Cut the matrix anchors × references into tiles that fit a size budget."""

from dataclasses import dataclass

from tuplet.bounds import Count, check

PANEL = 256
"""Rows of a panel when all columns fit: enough for matrix products at full speed, small enough for the cache."""

LEAST_ROWS = 64
"""Below so many rows a panel's products wait for memory; then columns are cut too."""

TILE_SIZE = 2**20
"""Entries of a tile when nothing is said: 4 MiB in float32."""

SIDE = 1024
"""Most rows of a tile when columns are cut."""

WIDTH = 8192
"""Most columns then, so that the references of a tile stay in the cache."""

KEPT = 2**23
"""Numbers in tiles, with their references, kept until their gradients are known; other tiles are
scored twice."""


@dataclass(frozen=True)
class Plan:
    """Spans of rows and of columns; tiles are their products.

    Args:
        rows: Spans of anchors.
        cols: Spans of references; a single one if tiles hold whole rows.
    """

    rows: tuple[slice, ...]
    cols: tuple[slice, ...]

    @property
    def whole(self) -> bool:
        """True if every tile spans all references."""
        return len(self.cols) <= 1


def plan(
    anchors: int,
    references: int,
    tile_size: int | None = None,
    *,
    whole_rows: bool = False,
    work: int = 1,
    narrow: bool = False,
) -> Plan:
    """Choose the spans.

    Args:
        anchors: Rows of the matrix.
        references: Columns of the matrix.
        tile_size: Most entries of a tile; by default about a million, and never fewer than a panel of 64 rows needs
            as long as that stays below 16 times as many.
        whole_rows: True if a tile must span all references, however few rows that leaves.
        work: Numbers held for each entry of such a tile.
        narrow: True if columns are to be cut even where few rows fit with all of them. The spans of rows do not depend
            on the number of references then.

    Returns:
        The plan; the last span of either side may be shorter.
    """
    if tile_size is not None:
        check("tile_size", tile_size, Count)
    budget = tile_size if tile_size is not None else TILE_SIZE if narrow else _default(references)
    rows = min(anchors, PANEL, budget // max(1, references))
    if whole_rows:
        return Plan(spans(anchors, min(rows, budget // max(1, work * references))), spans(references, references))
    least = 1 if tile_size is not None else LEAST_ROWS
    if not narrow and rows >= min(least, max(1, anchors)):
        return Plan(spans(anchors, rows), spans(references, references))
    rows = max(1, min(anchors, SIDE, budget))
    cols = budget // rows if tile_size is not None else min(budget // rows, WIDTH)
    return Plan(spans(anchors, rows), spans(references, cols))


def spans(total: int, size: int) -> tuple[slice, ...]:
    """Consecutive slices of at most `size`, which counts as 1 if it is less; one empty slice if there is nothing."""
    size = max(1, size)
    return tuple(slice(begin, min(begin + size, total)) for begin in range(0, total, size)) or (slice(0, 0),)


def _default(references: int) -> int:
    return max(TILE_SIZE, min(LEAST_ROWS * references, 16 * TILE_SIZE))
