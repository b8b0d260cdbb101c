"""Every loss has its page, and every page has what a person looks for there."""

import re
import sys
from pathlib import Path

import pytest

from tuplet.losses import registry

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))  # scripts beside their pages, not a package
PAGES = sorted(page for page in (DOCS / "losses").glob("*.md") if page.stem != "index")
PARTS = [
    r"^\$\$.+\$\$$",  # the equation
    r"^!\[.+\]\(\.\./images/(losses|course)/\w+\.svg\)$",
    r"^```python$",
    r"^\*\*Use it\*\* ",
    r"^\*\*Leave it\*\* ",
    r"^\*\*Cost\.\*\* .*O\(",
    r"^\*\*Pitfalls\.\*\*",
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@every_page
def test_a_page_says_all_that_is_asked_of_a_loss(page):
    text = page.read_text(encoding="utf-8")
    assert [part for part in PARTS if not re.search(part, text, re.MULTILINE)] == []


@every_page
def test_the_first_example_of_a_page_is_short(page):
    first = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
    assert len(first.strip().splitlines()) <= 12


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
