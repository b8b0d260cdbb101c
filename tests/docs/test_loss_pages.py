"""Every loss has its page, and every page has what a person looks for there."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from tuplet.losses import registry

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))  # scripts beside their pages, not a package
PAGES = sorted(page for page in (DOCS / "losses").glob("*.md") if page.stem not in {"index", "table"})
HEADINGS = [
    "When to use it",
    "Example",
    "Settings of papers",
    "Cost",
    "Pitfalls",
    "Other losses",
    "The lecture note",  # where the note speaks of the loss
    "References",
]
PARTS = [
    r"\A# .+\n\n\S.+\.\n\S.+[.:]\n\n",  # what it does, in two sentences on two lines
    r"^\$\$.+\$\$$",  # the equation
    r"^!\[.+\]\(\.\./images/(losses|course)/\w+\.svg(#\w+)?\)$",
    r"^\*\*Use it\*\* ",
    r"^\*\*Leave it\*\* ",
    r"^<!-- generated: measured -->$",
    r"^## Cost\n\n.*O\(",
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@every_page
def test_a_page_says_all_that_is_asked_of_a_loss(page):
    text = page.read_text(encoding="utf-8")
    assert [part for part in PARTS if not re.search(part, text, re.MULTILINE)] == []


@every_page
def test_the_parts_of_a_page_have_one_order(page):
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [heading for heading in HEADINGS if heading in headings or heading != "The lecture note"]


@pytest.mark.parametrize("page", [*PAGES, DOCS / "index.md"], ids=lambda page: page.stem)
def test_the_first_example_of_a_page_is_short_and_prints_what_stands_below_it(page):
    code, output = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text("utf-8"), re.DOTALL).groups()
    assert len(code.strip().splitlines()) <= 13
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})  # noqa: S102
    assert printed.getvalue() == output


@every_page
def test_references_have_an_address_and_a_year(page):
    listed = page.read_text(encoding="utf-8").partition("## References\n\n")[2].strip().splitlines()
    assert listed
    assert [one for one in listed if not re.fullmatch(r"- \[.+, (19|20)\d\d(, .+)?\]\(https://\S+\)\.", one)] == []


def test_every_score_in_the_prose_stands_in_the_results():
    """Numbers of three digits are scores; what is generated, and what code prints, has a test of its own."""
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    for page in [*PAGES, DOCS / "losses" / "index.md"]:
        text = re.sub(r"<!-- generated.*?<!-- end -->|```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        scores = re.findall(r"(?<![\d.,])[01]\.\d{3}(?!\d)", text)
        assert [score for score in scores if score not in results] == [], page


def test_every_loss_is_led_to_from_the_choosing_guide():
    guide = (DOCS / "losses" / "index.md").read_text()
    assert [name for name in registry if f"`{name}`" not in guide] == []
    assert [page.name for page in PAGES if f"({page.name})" not in guide] == []


def test_every_figure_is_made_by_code_and_shown():
    pytest.importorskip("matplotlib")
    import figures  # noqa: PLC0415
    import stills  # noqa: PLC0415

    assert {image.stem for image in (DOCS / "images" / "losses").glob("*.svg")} == set(figures.FIGURES)
    shown = {name for page in PAGES for name in re.findall(r"images/losses/(\w+)\.svg", page.read_text())}
    assert shown == set(figures.FIGURES)
    assert {name for name in stills.STILLS if not (DOCS / "images" / "course" / f"{name}.svg").exists()} == set()
    assert {path.stem for path in (DOCS / "javascripts" / "figures").glob("*.js")} == set(stills.STILLS)


def test_a_page_marks_the_curves_of_its_own_loss_in_a_drawing_of_many():
    marked = set()
    for page in PAGES:
        for drawing, name in re.findall(r"images/losses/(\w+)\.svg(?:#(\w+))?\)", page.read_text(encoding="utf-8")):
            svg = (DOCS / "images" / "losses" / f"{drawing}.svg").read_text(encoding="utf-8")
            of_one = {found for found in registry if f'id="of-{found}-line-0-' in svg}
            assert name == (page.stem if page.stem in of_one else ""), page
            if name:
                assert f'<g id="{name}"/>' in svg
                assert f'svg:has(#{name}:target) [id^="of-{name}-"]' in svg
                marked.add(name)
    assert len(marked) > 20


def test_every_place_of_a_figure_has_its_still_after_it():
    """A reader without scripts, and one on paper, sees the still."""
    for page in DOCS.rglob("*.md"):
        for name, rest in re.findall(r'data-figure="(\w+)"></div>\n\n(.*)', page.read_text(encoding="utf-8")):
            assert f"images/course/{name}.svg)" in rest, page


def test_formulas_leave_no_tex_behind():
    convert = pytest.importorskip("latex2mathml.converter").convert
    left = []
    for page in sorted(DOCS.rglob("*.md")):
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", prose, re.DOTALL)
        left += [(page.name, text) for pair in formulas if "\\" in convert(text := "".join(pair))]
    assert left == []
