"""A hook of mkdocs: what is wider than a phone is laid out once more for one.

Panels of a figure that stand side by side are put below each other, in a second file `NAME.tall.svg` that narrow
screens take. A table with sentences in it becomes one card per row there, each cell after the name of its column;
tables of numbers stay tables, which are scrolled sideways by themselves.
"""

import html
import itertools
import re
from typing import Any

from mkdocs.structure.files import File, Files

WIDEST = 440  # units of a drawing that are still legible across a phone
ONE_PANEL = 470  # the same, where there is nothing to put below: no drawing of one panel may be wider
SENTENCE = 24  # letters: a cell with more is read, not compared
ROOM = 9  # units that a line of turned letters takes to its left
LINE = 46  # letters that fit beside each other on a phone
_PANEL = re.compile(r'<g id="axes_\d+">\s*<g id="patch_\d+">\s*<path d="([^"]+)"')
_WORD = re.compile(r'<g [^>]*transform="translate\((-?[\d.]+) -?[\d.]+\) (rotate\(-90\) )?scale\(')
_POINT = re.compile(r"(-?[\d.]+) (-?[\d.]+)")
_IMAGE = re.compile(r'<img [^>]*?src="([^"]+)\.svg(#[^"]*)?"[^>]*>')
_TABLE = re.compile(r"<table>\n<thead>\n(.*?)</table>", re.DOTALL)
_CELL = re.compile(r"<(t[hd])((?: [^>]*)?)>(.*?)</\1>", re.DOTALL)
_KINDS = {"th": "columnheader", "td": "cell"}


def on_files(files: Files, *, config: Any) -> Files:
    """With a tall form of every drawing that has panels side by side."""
    for file in list(files.media_files()):
        if file.src_uri.startswith("images/") and file.src_uri.endswith(".svg"):
            found = tall(file.content_string)
            if found:
                files.append(File.generated(config, _tall_name(file.src_uri), content=found))
    return files


def on_page_content(content: str, *, files: Files, **_: Any) -> str:
    """The page with the tall forms for narrow screens, and with cards."""

    def narrowed(found: re.Match[str]) -> str:
        name, fragment = found[1], found[2] or ""
        known = name[name.rfind("images/") :] + ".tall.svg"
        if files.get_file_from_path(known) is None:
            return found[0]
        source = f'<source media="(max-width: 45em)" srcset="{name}.tall.svg{fragment}">'
        return f"<picture>{source}{found[0]}</picture>"

    return _TABLE.sub(carded, _IMAGE.sub(narrowed, content))


def _tall_name(path: str) -> str:
    return f"{path.removesuffix('.svg')}.tall.svg"


def tall(svg: str) -> str | None:
    """The drawing with its columns of panels below each other; None where it has one."""
    width, height, start = _size(svg)
    looks = " ".join(re.findall(r'\bfont-[a-z]+="[^"]*"', svg[:start]))
    ends = [0.0, *cuts(svg), width]
    pieces: list[tuple[float, float]] = []
    for left, right in itertools.pairwise(ends):
        is_beside = pieces and right - pieces[-1][0] <= WIDEST
        pieces.append((pieces.pop()[0] if is_beside else left, right))
    if len(pieces) == 1:
        return None
    widest = max(right - left for left, right in pieces)
    body = svg[start : svg.rindex("</svg>")]
    style = "".join(re.findall(r"<style>:root.*?</style>", body, re.DOTALL))
    body = body.replace(style, "", 1)
    shown = []
    for row, (left, right) in enumerate(pieces):
        box = f'viewBox="{left:g} 0 {right - left:g} {height:g}"'
        place = f'x="0" y="{row * height:g}" width="{right - left:g}" height="{height:g}"'
        shown.append(f'<svg {place} {box} overflow="hidden">{body}</svg>')  # rules by `:target` do not reach into <use>
    size = f'width="{widest:g}pt" height="{len(pieces) * height:g}pt" viewBox="0 0 {widest:g} {len(pieces) * height:g}"'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {spaces} {looks} {size}>{style}{''.join(shown)}</svg>\n"


def _size(svg: str) -> tuple[float, float, int]:
    """Width, height, and where the tag ends that says so."""
    head = re.search(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    if head is None:
        raise ValueError(f"A drawing needs a viewBox that begins at 0 0: {svg[:200]}")
    return float(head[1]), float(head[2]), head.end()


def cuts(svg: str) -> list[float]:
    """Where a drawing may be cut from top to bottom: where it says so, or left of the words of each column."""
    said = re.search(r'data-cuts="([^"]+)"', svg)
    if said:
        return [float(at) for at in said[1].split()]
    columns: list[tuple[float, float, float]] = []
    for part in re.split(r'(?=<g id="axes_\d+">)', svg)[1:]:
        path = _PANEL.match(part)
        if path:
            across = [float(x) for x, _ in _POINT.findall(path[1])]
            words = [float(x) - (ROOM if turned else 0) for x, turned in _WORD.findall(part)]
            columns.append((min([*words, *across]), min(across), max(across)))
    found: list[float] = []
    end = 0.0
    for begin, left, right in sorted(columns):
        if end and left > end:
            found.append(begin - 2)
        end = max(end, right)
    return found


def carded(found: re.Match[str]) -> str:
    """The table with its rows as cards on narrow screens, if it is read rather than compared."""
    rows = [_CELL.findall(row) for row in found[0].split("</tr>")]
    names = [_said(inner) for _, _, inner in rows[0]]
    texts = [[_said(inner) for _, _, inner in row] for row in rows if row]
    widths = [max(map(_length, column)) for column in zip(*texts, strict=False)]
    if len(names) < 3:
        return found[0]
    # the first cell is the name of the row
    letters = max(_length("".join(filter(str.isalpha, text))) for row in texts[1:] for text in row[1:])
    if sum(widths) <= LINE or letters <= SENTENCE:
        return found[0]
    column = -1

    def labelled(cell: re.Match[str]) -> str:
        nonlocal column
        column = (column + 1) % len(names)
        label = f' data-label="{html.escape(names[column])}"' if cell[1] == "td" and column and names[column] else ""
        return f'<{cell[1]} role="{_KINDS[cell[1]]}"{label}{cell[2]}>{cell[3]}</{cell[1]}>'

    # what is no table by its layout is none for a screen reader either, unless it says so
    table = _CELL.sub(labelled, found[0]).replace("<tr>", '<tr role="row">')
    table = table.replace("<thead>", '<thead role="rowgroup">').replace("<tbody>", '<tbody role="rowgroup">')
    return table.replace("<table>", '<table role="table" data-cards>')


def _said(inner: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", inner)).strip()


def _length(text: str) -> int:
    """In letters of the Latin alphabet: those of Korean are twice as wide."""
    return sum(2 if "\uac00" <= letter <= "\ud7a3" else 1 for letter in text)
