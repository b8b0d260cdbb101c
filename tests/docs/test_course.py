"""The course runs, and says what it measured."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))
import chapters  # noqa: E402  # a script beside its pages, not a package

every_chapter = pytest.mark.parametrize("name", chapters.ORDER)
NOT_PROSE = re.compile(
    r"^```.*?^```$|\$\$?.+?\$\$?|`[^`\n]*`|\{\{.+?\}\}|\]\([^)]*\)|<[^>]*>", re.DOTALL | re.MULTILINE
)
MEASURED = re.compile(r"\d+\.\d+|\d+ ?%")
ANSWER = re.compile(r"<details.*?</details>", re.DOTALL)  # sums that a reader can do, not measurements


@pytest.mark.slow
@every_chapter
def test_a_short_form_of_each_chapter_runs_and_has_every_value_that_pages_show(name):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    chapter, names = chapters.read(name), {"__name__": name}
    figures = []
    for code in chapter.shortened():
        exec(compile(code, name, "exec"), names)  # noqa: S102
        figures.append(len(pyplot.get_fignums()))
        pyplot.close("all")
    assert figures == [bool(cell.name) for cell in chapter.cells]
    for field in chapters.wanted(name):
        assert eval(f"f'''{{{field}}}'''", names)  # noqa: S307


@every_chapter
def test_what_is_stored_is_of_the_code_that_is_shown(name):
    assert chapters.stale([name]) == []


def test_pages_and_notebooks_are_what_the_chapters_give():
    found = {path: path.read_text(encoding="utf-8") for path in chapters.PAGES.iterdir()}
    assert found == chapters.pages()


@every_chapter
def test_a_notebook_is_valid_and_holds_code_and_outputs(name):
    nbformat = pytest.importorskip("nbformat")
    text = (chapters.PAGES / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells] == [cell.code.strip() for cell in chapters.read(name).cells]
    assert all(cell.outputs for cell in cells)
    assert "](../" not in "".join(cell.source for cell in notebook.cells)


@every_chapter
def test_each_measured_number_of_the_prose_is_a_field_of_the_run(name):
    prose = NOT_PROSE.sub("", ANSWER.sub("", chapters.read(name).text))
    assert MEASURED.findall(prose) == []


@every_chapter
def test_a_chapter_has_all_its_parts(name):
    text = chapters.read(name).text
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert any(heading.startswith("What the lecture note says") for heading in headings)
    assert any(heading.startswith("Experiment") for heading in headings)
    assert {"Exercise", "Further"} <= set(headings)
    assert "<summary>Answer</summary>" in text
    assert re.search(r"\]\(https://", text)
    assert re.search(r"\]\(\.\./losses/\w+\.md", text) or name == "evaluation"
    assert "](../results.md" in text


def test_every_figure_is_of_a_cell_and_shown_in_its_chapter():
    named = {chapter.name: [cell.name for cell in chapter.cells if cell.name] for chapter in chapters.chapters()}
    shown = {
        c.name: re.findall(r"^!\[.+\]\(\.\./images/chapters/([\w-]+)\.svg\)$", c.text, re.MULTILINE)
        for c in chapters.chapters()
    }
    assert shown == named
    assert {path.stem for path in chapters.IMAGES.iterdir()} == {name for names in named.values() for name in names}


def test_chapters_have_places_for_the_figures_that_move():
    places = [
        (chapter.name, name)
        for chapter in chapters.chapters()
        for name in re.findall(
            r'^<div class="tuplet-figure" data-figure="([\w-]+)"></div>$', chapter.text, re.MULTILINE
        )
    ]
    assert places == [
        ("pairs", "contrastive"),
        ("triplets", "triplet"),
        ("npair", "npair"),
        ("nce", "nce"),
        ("nce", "bound"),
        ("margins", "margins"),
        ("graded", "graded"),
        ("instances", "instances"),
        ("matrix", "losses"),
        ("evaluation", "ranking"),
    ]


def rows() -> list[list[str]]:
    """The table of claims as it is written, fields unfilled."""
    text = (chapters.SOURCES / "claims.md").read_text(encoding="utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if re.match(r"\| \d", line)
    ]


def slug(heading: str) -> str:
    """The anchor of a heading."""
    toc = pytest.importorskip("markdown.extensions.toc")
    return toc.slugify(heading, "-")


def test_no_claim_of_the_note_is_left_out_and_each_has_an_outcome():
    assert [int(row[0]) for row in rows()] == list(range(1, 35))
    assert {row[-1] for row in rows()} == {"shown", "bounded", "refuted"}


def test_each_claim_leads_to_a_heading_and_its_numbers_are_of_that_chapter():
    anchors = {
        chapter.name: {slug(heading) for heading in re.findall(r"^#+ (.+)$", chapter.text, re.MULTILINE)}
        for chapter in chapters.chapters()
    }
    for number, _, where, _, measured, _ in rows():
        links = re.findall(r"\]\((\w+)\.md#([\w-]+)\)", where)
        assert links, number
        assert all(anchor in anchors[chapter] for chapter, anchor in links), number
        fields = [(found["chapter"], found["value"]) for found in chapters.FIELD.finditer(measured)]
        assert fields, number
        assert {chapter for chapter, _ in fields} == {chapter for chapter, _ in links}, number
        assert all(chapters.stored(chapter)["values"][value] for chapter, value in fields)


def test_only_the_code_decides_whether_a_chapter_is_stale():
    chapter = chapters.Chapter("one", "# One\n\n```python\nx = 1\n```\n\nEnd {{x}}.\n")
    reworded = chapters.Chapter("one", "# Two\n\n```python\nx = 1\n```\n\nBegin {{x}}.\n")
    changed = chapters.Chapter("one", "# One\n\n```python\nx = 2\n```\n\nEnd {{x}}.\n")
    named = chapters.Chapter("one", "# One\n\n```python curve\nx = 1\n```\n\nEnd {{x}}.\n")
    short = chapters.Chapter("one", "# One\n\n```python\nx = 1  # short: 0\n```\n\nEnd {{x}}.\n")
    assert chapter.digest == reworded.digest == short.digest
    assert len({chapter.digest, changed.digest, named.digest}) == 3


def test_the_short_form_replaces_only_numbers_that_say_so():
    chapter = chapters.Chapter("one", "```python\nSTEPS = 400  # short: 4\nRATE = 0.1  # of Adam\n```\n")
    assert chapter.shortened() == ["STEPS = 4\nRATE = 0.1  # of Adam\n"]


@pytest.mark.slow
def test_a_chapter_in_a_kernel_stores_what_it_printed_drew_and_left(tmp_path, monkeypatch):
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    for place in ("SOURCES", "PAGES", "IMAGES"):
        monkeypatch.setattr(chapters, place, tmp_path / place)
    chapters.SOURCES.mkdir()
    monkeypatch.setattr(chapters, "ORDER", ("one",))
    text = (
        "# One\n\n```python\nx = 3\nprint('x is', x)\n```\n\nBetween.\n\n"
        "```python line\nimport matplotlib.pyplot as plt\nplt.plot([0, x])\nplt.show()\n```\n\n"
        "![A line](../images/chapters/line.svg)\n\nSo x is {{x:.1f}}.\n"
    )
    (chapters.SOURCES / "one.md").write_text(text)
    (chapters.SOURCES / "index.md").write_text("It is {{@one x + 1}}.\n")
    assert chapters.main(["--check"])
    assert chapters.main([]) == 0
    assert chapters.main(["--check"]) == 0
    found = chapters.stored("one")
    assert found["printed"] == ["x is 3\n", ""]
    assert found["values"] == {"x:.1f": "3.0", "x + 1": "4"}
    assert (chapters.IMAGES / "line.svg").read_text().count("<svg") == 1
    page = (chapters.PAGES / "one.md").read_text()
    assert "```text\nx is 3\n```" in page
    assert "So x is 3.0." in page
    assert "It is 4." in (chapters.PAGES / "index.md").read_text()
    (chapters.SOURCES / "one.md").write_text(text.replace("x = 3", "x = 4"))
    assert chapters.main(["--check"])


def test_whoever_reads_of_the_note_is_led_to_what_it_is():
    said = {
        page: re.search(
            r"^## (?:What the|The) lecture note.*?(?=^## )", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for folder in ("course", "losses")
        for page in (ROOT / "docs" / folder).glob("*.md")
    }
    sections = {page.relative_to(ROOT): found[0] for page, found in said.items() if found}
    assert len(sections) == 16
    assert [name for name, section in sections.items() if "index.md#the-note)" not in section] == []
