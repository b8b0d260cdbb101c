"""What a phone is shown in the place of wide figures and tables."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the hooks of the site need tuplet[docs]")

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
import narrow  # noqa: E402  # a hook beside its pages, not a package
from mkdocs.structure.files import Files  # noqa: E402

DRAWINGS = sorted((DOCS / "images").rglob("*.svg"))


def pieces(svg: str) -> list[tuple[float, float]]:
    """Left end and width of each part of a tall drawing."""
    boxes = re.findall(r'<svg x="0"[^>]*viewBox="([\d.]+) 0 ([\d.]+) ', svg)
    return [(float(left), float(width)) for left, width in boxes]


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_the_parts_of_a_tall_drawing_are_the_whole_of_it_and_cut_no_panel(path):
    svg = path.read_text(encoding="utf-8")
    width, height, _ = narrow._size(svg)
    found = narrow.tall(svg)
    if found is None:
        assert width <= (narrow.WIDEST if narrow.cuts(svg) else narrow.ONE_PANEL)  # or it would have to be scrolled
        return
    parts = pieces(found)
    assert max(wide for _, wide in parts) <= narrow.WIDEST
    assert [left for left, _ in parts[1:]] == pytest.approx([left + wide for left, wide in parts[:-1]], abs=0.01)
    assert (parts[0][0], sum(parts[-1])) == pytest.approx((0, width), abs=0.01)
    assert narrow._size(found)[1] == pytest.approx(len(parts) * height, abs=0.1)
    begin = svg[: svg.index(">", svg.index("<svg"))]
    assert [look for look in re.findall(r'font-\w+="[^"]+"', begin) if look not in found[: found.index(">")]] == []
    for path_of_panel in narrow._PANEL.findall(svg):
        across = [float(x) for x, _ in narrow._POINT.findall(path_of_panel)]
        assert not [cut for cut in narrow.cuts(svg) if min(across) < cut < max(across)]


def page_of(*rows: str) -> str:
    """A page with one table, as mkdocs gives it to the hook."""
    markdown = pytest.importorskip("markdown")
    head, *body = rows
    text = "\n".join([head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), *body])
    return narrow.on_page_content(markdown.markdown(text, extensions=["tables"]), files=Files([]))


def test_a_table_of_sentences_names_the_column_in_each_cell():
    found = page_of(
        "| term | what it is | see |",
        "| `margin` | how much farther a negative has to be than a positive | <a href='x'>here</a> |",
        "| scale |  | 1 / temperature & more |",
    )
    assert re.findall(r'<td role="cell" data-label="([^"]+)"', found) == ["what it is", "see"] * 2
    assert found.count('role="columnheader"') == 3
    assert re.search(r'<table role="table" data-cards>', found)
    assert found.count('role="row"') == 3


@pytest.mark.parametrize(
    "rows",
    [
        ("| loss | time | memory |", "| a very long name of a loss that there is | 12.5 ms | 3 MB |"),
        ("| word | what it means to whoever reads this |", "| one | a sentence that is as long as you like it to be |"),
        ("| a | b | c |", "| few | words | here |"),
    ],
)
def test_a_table_of_numbers_or_of_two_columns_stays_one(rows):
    assert "data-" not in page_of(*rows)
