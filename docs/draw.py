"""The picture of the README, anchors × references in tiles, and what makes SVG legible on light and on dark pages."""

import colorsys
import re

CELL, GAP, LEFT, TOP = 18, 3, 150, 74
CLASSES = [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]  # labels of the rows and columns
TILE = (slice(4, 8), slice(4, 8))
INK, QUIET, POSITIVE, NEGATIVE, SELF, ACCENT = "#1f2430", "#6b7280", "#2a9d8f", "#d5dde6", "#9aa5b4", "#e76f51"


def matrix() -> str:
    """An SVG document that reads on light and on dark pages."""
    size = len(CLASSES)
    edge = size * (CELL + GAP) - GAP
    rows, cols = TILE
    shapes = [
        _text(LEFT + edge / 2, 32, "references", anchor="middle", weight=600),
        _text(LEFT + edge / 2, 52, "in tiles; the matrix is never stored", anchor="middle", colour=QUIET, size=13),
        _text(LEFT - 18, TOP + edge / 2 + 5, "anchors", anchor="end", weight=600),
        *(_cell(row, col) for row in range(size) for col in range(size)),
        _frame(_at(LEFT, cols.start) - GAP, _at(TOP, rows.start) - GAP, cols, rows),
    ]
    right = LEFT + edge + 70
    shapes += [_reduced(right, row) for row in range(size)]
    shapes += [
        _text(right + 58, 32, "reduced", anchor="middle", weight=600),
        _text(right + 58, 52, "a few numbers per anchor", anchor="middle", colour=QUIET, size=13),
        _arrow(right + 134, TOP + edge / 2),
        _text(right + 190, TOP + edge / 2 - 10, "loss = Σ loss / Σ count", weight=600),
        _text(right + 190, TOP + edge / 2 + 12, "value and gradient exact", colour=QUIET, size=13),
        _text(right + 190, TOP + edge / 2 + 32, "for every tile size", colour=QUIET, size=13),
    ]
    bottom = TOP + edge + 34
    for x, colour, word in (
        (LEFT, POSITIVE, "positive"),
        (LEFT + 100, NEGATIVE, "negative"),
        (LEFT + 205, SELF, "itself"),
    ):
        shapes += [_square(x, bottom - 12, 14, colour), _text(x + 21, bottom, word, size=13)]
    width, height = right + 390, bottom + 24
    return themed(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="15" role="img" data-cuts="{LEFT + edge + 35}">\n'
        f"<title>A matrix of anchors and references, computed tile by tile, reduced to one number per anchor</title>\n"
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _cell(row: int, col: int) -> str:
    colour = SELF if row == col else POSITIVE if CLASSES[row] == CLASSES[col] else NEGATIVE
    inside = TILE[0].start <= row < TILE[0].stop and TILE[1].start <= col < TILE[1].stop
    seen = row < TILE[0].start or (row < TILE[0].stop and col < TILE[1].stop)
    return _square(_at(LEFT, col), _at(TOP, row), CELL, colour, opacity=1.0 if inside else 0.6 if seen else 0.28)


def _reduced(x: float, row: int) -> str:
    strength = (
        1.0 if row < TILE[0].start else 0.5 if row < TILE[0].stop else 0.0
    )  # finished, in the tile, still to come
    colour = ACCENT if strength else NEGATIVE
    parts = [
        _square(x + 30 * part, _at(TOP, row), CELL + 8, colour, height=CELL, opacity=strength or 1) for part in range(4)
    ]
    return "\n".join(parts)


def _at(start: int, position: int) -> int:
    return start + position * (CELL + GAP)


def _square(x: float, y: float, width: float, colour: str, *, height: float | None = None, opacity: float = 1.0) -> str:
    tall = width if height is None else height
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{tall:g}" rx="3" fill="{colour}" opacity="{opacity:g}"/>'
    )


def _frame(x: float, y: float, cols: slice, rows: slice) -> str:
    width, height = ((span.stop - span.start) * (CELL + GAP) + GAP for span in (cols, rows))
    place = f'x="{x:g}" y="{y:g}" width="{width}" height="{height}"'
    return f'<rect {place} rx="5" fill="none" stroke="{ACCENT}" stroke-width="3"/>'


def _arrow(x: float, y: float) -> str:
    return f'<path d="M{x:g} {y:g} h34 m-9 -7 l9 7 l-9 7" fill="none" stroke="{INK}" stroke-width="2"/>'


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: int = 400, colour: str = INK, size: int = 15
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" fill="{colour}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{words}</text>'


MARK = "of-"  # begins the ids of what a drawing shows of one thing among several: of-NAME-...


def outstanding(svg: str) -> str:
    """The same picture, in which `PICTURE.svg#NAME` shows the curves of that name before all others."""
    names = sorted(set(re.findall(rf'id="{MARK}(\w+)-', svg)))
    if not names:
        return svg
    rules = [f'svg:has(:target) [id^="{MARK}"]{{opacity:0.35}}']
    for name in names:
        own = f'svg:has(#{name}:target) [id^="{MARK}{name}-"]'
        rules.append(f"{own}{{opacity:1}}{own} path{{stroke-width:3.2!important}}")
    places = "".join(f'<g id="{name}"/>' for name in names)
    return svg.replace("</style>", "".join(rules) + "</style>" + places, 1)


_COLOUR = re.compile(r"#[0-9a-f]{6}\b")


def themed(svg: str) -> str:
    """The same picture, with a second value of every colour for pages that are dark.

    An image follows `color-scheme` of the page that shows it, so that it changes when the reader switches the palette.
    """
    colours = sorted(set(_COLOUR.findall(svg)))
    names = {colour: f"--c{colour[1:]}" for colour in colours}
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    dark = "".join(f"{name}:{_on_dark(colour)};" for colour, name in names.items())
    head = f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    # a presentation attribute does not read variables, a style does
    svg = re.sub(r'\b(fill|stroke)="(#[0-9a-f]{6})"', r'style="\1: \2"', svg)
    svg = re.sub(r'style="([^"]*)"([^>]*?) style="([^"]*)"', r'style="\1; \3"\2', svg)
    body = _COLOUR.sub(lambda found: f"var({names[found[0]]}, {found[0]})", svg)
    return re.sub(r"(<svg\b[^>]*>)", rf"\1\n{head}", body, count=1)


def _on_dark(colour: str) -> str:
    """Lines grow lighter until they stand out from a dark page, light areas turn dark; the hue stays."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)))
    if lightness > 0.84:
        lightness, saturation = 1.12 - lightness, 0.7 * saturation
    elif lightness < 0.7:
        lightness = max(lightness, 0.92 - 0.75 * lightness)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))
