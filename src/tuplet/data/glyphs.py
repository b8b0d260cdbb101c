"""The built-in data set: characters across the typefaces that ship in the matplotlib wheel, drawn on the spot."""

from dataclasses import dataclass
from pathlib import Path

from tuplet.data.manifest import Manifest


@dataclass(frozen=True)
class GlyphFacts:
    """What was drawn and what was set aside.

    Args:
        faces: Names of the type faces.
        classes: Characters kept.
        images: Drawings kept.
        lookalikes: Characters set aside because another one, of a lower code point, is drawn exactly alike in some face.
        copies: Drawings set aside because the same character has exactly the same one in another face.
    """

    faces: tuple[str, ...]
    classes: int
    images: int
    lookalikes: tuple[str, ...]
    copies: int


def make_glyphs(cache: Path) -> Manifest:
    """Letters and numbers of 16 type faces: class = character, group = type family, 32 x 32 grey images.

    Args:
        cache: Folder that keeps the drawings; made if missing, drawn again if damaged.

    Returns:
        1,611 classes and 19,999 images as a uint8 array (n, 1, 32, 32).

    Raises:
        MissingExtraError: matplotlib or Pillow is not installed.
    """
    raise NotImplementedError


def glyph_facts(cache: Path) -> GlyphFacts:
    """The facts about the drawings of `make_glyphs`, which are made if they are missing."""
    raise NotImplementedError
