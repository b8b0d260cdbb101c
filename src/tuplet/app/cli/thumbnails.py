"""Pictures of hits in a terminal: two pixels to a character, in any terminal that has colours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuplet.app.cli.show import visible

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

    from tuplet.index import Hits, Index

_SIDE, _GAP = 16, 2
_MAX_PIXELS = 50_000_000
"""Larger pictures are not decoded for a thumbnail."""


def show_pictures(
    index: "Index", folder: Path | None, hits: "Hits", accepts: Callable[[float], bool], *, texts: Sequence[str] = ()
) -> None:
    """Each query that is a picture, and its hits by rank; nothing where the output is no terminal with colours.

    Args:
        index: Whose items; a run's has small copies of its pictures.
        folder: The collection, whose files have the names of the items.
        hits: What was found.
        accepts: Whether a hit of this score is shown.
        texts: Queries that are no files, even if there is one of this name.
    """
    from rich.console import Console

    from tuplet.app.pictures import Pictures, shrunk

    console = Console()
    if not console.is_terminal or console.no_color or console.color_system not in ("256", "truecolor"):
        return
    pictures = Pictures(index, folder, _MAX_PIXELS)
    for query, positions, names, scores in zip(
        hits.queries, hits.positions.tolist(), hits.ids, hits.scores.tolist(), strict=True
    ):
        found: list[tuple[str, Image | None]] = [
            (str(rank), pictures.image(position, name, _SIDE))
            for rank, (position, name, score) in enumerate(zip(positions, names, scores, strict=False), start=1)
            if accepts(score)
        ]
        if any(image is not None for _, image in found):
            console.print(visible(query), markup=False, highlight=False, overflow="ellipsis", no_wrap=True)
            asked = None if query in texts else shrunk(Path(query), _SIDE, _MAX_PIXELS)
            _show(console, [("query", asked), *found])


def _show(console: "Console", pictures: "list[tuple[str, Image | None]]") -> None:
    """Pictures in lines as long as the terminal is wide, each above its name."""
    from PIL.Image import new
    from rich_pixels import Pixels

    seen = [(name, image) for name, image in pictures if image is not None]
    fit = max(1, (console.width + _GAP) // (_SIDE + _GAP))
    for start in range(0, len(seen), fit):
        part = seen[start : start + fit]
        line = new("RGBA", (len(part) * (_SIDE + _GAP) - _GAP, _SIDE))
        for place, (_, image) in enumerate(part):
            left = place * (_SIDE + _GAP) + (_SIDE - image.width) // 2
            line.paste(image, (left, (_SIDE - image.height) // 2))
        console.print(Pixels.from_image(line), end="")
        console.print((" " * _GAP).join(name.center(_SIDE) for name, _ in part).rstrip(), highlight=False)
