"""The glossary is kept, and the checker that keeps it finds what it should; the code is no larger than its design."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(ROOT / "docs"))
import shape  # noqa: E402  # scripts beside their pages, not a package
import terms  # noqa: E402


def test_no_retired_word_stands_anywhere():
    assert list(terms.misused()) == []


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("code.py", "def walk_block():\n    return 1\n", [1]),
        ("code.py", "x = 1  # the walk over tiles\n", [1]),
        ("code.py", '"""One.\n\nA walk.\n"""\n', [3]),
        ("code.py", "row = {'verdict': 1}\n", [1]),
        ("code.py", "class FaultsOfMany:\n    pass\n", [1]),
        ("code.py", "default, wall, sidewalks = 1, 2, 3\n", []),
        ("page.md", "One.\nIts verdict.\n", [2]),
        ("page.md", "Two.\n\n```python\npose(x)\n```\n", [3]),
        ("page.md", "A `slope` is named.\n", [1]),
        ("page.md", "A position is posed by nobody, at a sidewalk.\n", []),
        ("recipe.toml", "x = 1  # ours\n", [1]),
    ],
)
def test_the_checker_finds_retired_words_and_no_others(tmp_path, monkeypatch, name, text, lines):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / name).write_text(text)
    monkeypatch.setattr(terms, "ROOT", tmp_path)
    found = {int(re.match(r"src/[\w.]+:(\d+):", line)[1]) for line in terms.misused()}
    assert sorted(found) == lines


def test_every_exception_is_needed():
    """An exception for a word that no longer stands there would hide its return."""
    everywhere = [line.split(":")[0] + " " + line.split("'")[1].lower() for line in terms.misused(allowed=())]
    unused = [
        (word, place)
        for word, place in terms.exceptions()
        if not any(line.startswith(place) and line.endswith(f" {word}") for line in everywhere)
    ]
    assert unused == []


def test_no_layer_is_larger_than_the_design_says():
    rows = re.findall(
        r"^\| ([\w ,]+) \| \d+ \| [\d,]+ \| (\d+) \| ([\d,]+) \|$",
        terms.GLOSSARY.with_name("design.md").read_text(),
        re.MULTILINE,
    )
    allowed = {layer: (int(number), int(size.replace(",", ""))) for layer, number, size in rows}
    found = shape.counted(ROOT)
    assert set(found) <= set(allowed)
    assert {layer: count for layer, count in found.items() if count[1] > 1.02 * allowed[layer][1]} == {}


def test_no_paragraph_is_a_wall_of_text():
    """A screen of a phone holds about 900 letters."""
    hand_written = [page for page in DOCS.rglob("*.md") if page.name != "math.md"]  # of which a line is an equation
    long = []
    for page in hand_written:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        paragraphs = [part for part in text.split("\n\n") if not re.match(r"\s*([|<#>-]|\d+\. |- |!\[)", part)]
        long += [(page.name, part[:60]) for part in paragraphs if len(part) > 900]
    assert long == []
