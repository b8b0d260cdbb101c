"""The built-in data set: characters across the typefaces that ship in the matplotlib wheel, drawn on the spot.

Many characters are drawn alike on purpose (the capital A of Latin, Greek and Cyrillic). No model can tell them apart,
and one of them in training gives its twin in the test away. So of all characters that some face draws identically only
the one with the lowest code point stays, before anything is split; `GlyphFacts` names the others.
"""

import hashlib
import importlib.util
import io
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.manifest import Manifest
from tuplet.errors import DataError, MissingExtraError
from tuplet.storage import write_file

FORMAT = 1
SIZE = 32  # pixels of an image, each way
POINTS = 24  # pixels of the type
LEAST = 8  # faces a character must be drawn in, and different drawings a class must have

_FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic", "-Italic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "BolIta", "Italic")),
)
_INCLUDED = frozenset("LNSP")  # general categories that are drawn: letters, numbers, symbols, punctuation
_KEPT = frozenset(("Lu", "Ll", "Lt", "Lo", "Nd", "Nl", "No"))  # and those that become classes


@dataclass(frozen=True)
class GlyphFacts:
    """What was drawn and what was set aside.

    Args:
        faces: Names of the type faces.
        classes: Characters kept.
        images: Drawings kept.
        lookalikes: Characters that some face draws exactly like another character.
        set_aside: Those of `lookalikes` that are left out, because a twin has a lower code point.
        copies: Drawings left out, because another face draws the same character exactly alike.
    """

    faces: tuple[str, ...]
    classes: int
    images: int
    lookalikes: tuple[str, ...]
    set_aside: tuple[str, ...]
    copies: int


def make_glyphs(cache: Path) -> Manifest:
    """Letters and numbers of 16 type faces: class = character, group = type family, grey images of 32 x 32 pixels.

    Args:
        cache: Folder that keeps the drawings; made if missing, drawn again if damaged or of other versions.

    Returns:
        1,611 classes and 19,999 images, white on black, as a uint8 array (n, 1, 32, 32).

    Raises:
        MissingExtraError: matplotlib or Pillow is not installed.
        DataError: The folder cannot be written.
    """
    images, table = _cached(cache)
    characters = sorted({code for code, _ in table["rows"]})
    ids = {code: label for label, code in enumerate(characters)}
    return Manifest(
        kind="image",
        ids=tuple(f"U+{code:04X}/{_FACES[face]}" for code, face in table["rows"]),
        items=images,
        labels=np.array([ids[code] for code, _ in table["rows"]], dtype=np.int64),
        class_names=tuple(f"{chr(code)} (U+{code:04X})" for code in characters),
        groups=tuple(_family(_FACES[face]) for _, face in table["rows"]),
        source="glyphs",
    )


def glyph_facts(cache: Path) -> GlyphFacts:
    """The facts about the drawings of `make_glyphs`, which are made if they are missing."""
    facts = _cached(cache)[1]["facts"]
    kept: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return GlyphFacts(**kept)


def _family(face: str) -> str:
    """`DejaVuSansMono-Bold` belongs to DejaVu Sans Mono."""
    if face.startswith("STIX"):
        return "STIX General"
    return {"DejaVuSans": "DejaVu Sans", "DejaVuSansMono": "DejaVu Sans Mono", "DejaVuSerif": "DejaVu Serif"}[
        face.split("-", maxsplit=1)[0]
    ]


def _cached(cache: Path) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The drawings and their table, from the cache if it is whole and of these versions."""
    _require("matplotlib", "PIL")
    wanted = {"format": FORMAT, "pillow": version("pillow"), "matplotlib": version("matplotlib")}
    try:
        table = json.loads((cache / "glyphs.json").read_bytes())
        pixels = (cache / "glyphs.npy").read_bytes()
        if {name: table[name] for name in wanted} == wanted and table["sha256"] == hashlib.sha256(pixels).hexdigest():
            return np.load(io.BytesIO(pixels), allow_pickle=False), table
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing there, or cut short: draw again
    try:
        cache.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        images, rows, facts = _draw()
        buffer = io.BytesIO()
        np.save(buffer, images, allow_pickle=False)
        pixels = buffer.getvalue()
        table = {**wanted, "sha256": hashlib.sha256(pixels).hexdigest(), "facts": asdict(facts), "rows": rows}
        write_file(cache / "glyphs.npy", pixels, shared=True)
        write_file(cache / "glyphs.json", json.dumps(table), shared=True)  # last: it vouches for the pixels
    except OSError as error:
        raise DataError(
            f"The glyphs cannot be kept in {cache}: {error.strerror or error}.",
            hint="Name a folder that can be written and has 25 MB free.",
            reference="cannot-write",
        ) from error
    return images, table


def _require(*modules: str) -> None:
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise MissingExtraError(
            f"The built-in glyphs are drawn with matplotlib's fonts and Pillow; not installed: {', '.join(missing)}.",
            extra="demo",
        )


def _draw() -> tuple[NDArray[np.uint8], list[tuple[int, int]], GlyphFacts]:
    """Images, (code point, face) of each, and the facts."""
    drawings = all_drawings()
    twins = _twins(drawings)
    set_aside = {code for code, first in twins.items() if code != first}
    pixels: list[bytes] = []
    rows: list[tuple[int, int]] = []
    copies = 0
    for code, faces in sorted(drawings.items()):
        if code in set_aside or unicodedata.category(chr(code)) not in _KEPT:
            continue
        different = _first_of_each(faces.items())
        if len(different) < LEAST:
            continue
        copies += len(faces) - len(different)
        pixels += [drawing for _, drawing in different]
        rows += [(code, face) for face, _ in different]
    facts = GlyphFacts(
        faces=_FACES,
        classes=len({code for code, _ in rows}),
        images=len(rows),
        lookalikes=tuple(chr(code) for code in sorted(twins)),
        set_aside=tuple(chr(code) for code in sorted(set_aside)),
        copies=copies,
    )
    return np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(-1, 1, SIZE, SIZE).copy(), rows, facts


def all_drawings() -> dict[int, dict[int, bytes]]:
    """Pixels of each character that at least `LEAST` faces have, by face, with all that `make_glyphs` sets aside.

    Only blank drawings are left out. Keys are code points, and positions in the list of faces.
    """
    import matplotlib as mpl  # noqa: PLC0415  optional: part of the extra `demo`
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415  the same
    from PIL import ImageFont  # noqa: PLC0415  optional: part of the extra `app`

    files = [Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf" for face in _FACES]
    known = [set(FT2Font(str(file)).get_charmap()) for file in files]
    characters = [
        code
        for code in sorted(set().union(*known))
        if unicodedata.category(chr(code))[0] in _INCLUDED and sum(code in face for face in known) >= LEAST
    ]
    blank = bytes(SIZE * SIZE)
    drawings: dict[int, dict[int, bytes]] = {code: {} for code in characters}
    for face, file in enumerate(files):
        font = ImageFont.truetype(str(file), POINTS, layout_engine=ImageFont.Layout.BASIC)
        for code in characters:
            if code in known[face] and (drawing := _drawing(font, chr(code))) != blank:
                drawings[code][face] = drawing
    return {code: faces for code, faces in drawings.items() if len(faces) >= LEAST}


def _drawing(font: Any, character: str) -> bytes:
    """One character, its box centred."""
    from PIL import Image, ImageDraw  # noqa: PLC0415  optional: part of the extra `app`

    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (SIZE, SIZE))
    corner = ((SIZE - left - right) / 2, (SIZE - top - bottom) / 2)
    ImageDraw.Draw(image).text(corner, character, fill=255, font=font)
    return image.tobytes()


def _twins(drawings: dict[int, dict[int, bytes]]) -> dict[int, int]:
    """The lowest code point of each character's group; only of characters that are not alone in theirs.

    Two characters are in one group if some face draws them alike, or if a chain of such pairs joins them.
    """
    first = {code: code for code in drawings}

    def root(code: int) -> int:
        while first[code] != code:
            code = first[code]
        return code

    seen: dict[tuple[int, bytes], int] = {}
    for code in sorted(drawings):
        for face, drawing in drawings[code].items():
            low, high = sorted((root(seen.setdefault((face, drawing), code)), root(code)))
            first[high] = low
    groups: dict[int, list[int]] = {}
    for code in drawings:
        groups.setdefault(root(code), []).append(code)
    return {code: low for low, codes in groups.items() if len(codes) > 1 for code in codes}


def _first_of_each(faces: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The drawings that differ, each in the first face that has it."""
    different: dict[bytes, int] = {}
    for face, drawing in faces:
        different.setdefault(drawing, face)
    return [(face, drawing) for drawing, face in different.items()]
