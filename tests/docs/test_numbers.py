"""Scores that guides state are those of the table of results. Loss pages and chapters have tests of their own."""

import csv
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(ROOT / "results"))
import audit  # noqa: E402  # a script beside its table, not a package

GUIDES = [DOCS / "index.md", ROOT / "README.md", *sorted((DOCS / "guides").glob("*.md"))]
SCORE = re.compile(r"(?<![\d.,])[01]\.\d{3}(?!\d| seconds)")


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_score_of_a_guide_stands_in_the_results(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    table = [line for line in prose.splitlines() if line.startswith("| among")]  # whose last column is a difference
    rest = "\n".join(line for line in prose.splitlines() if line not in table)
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    assert [score for score in SCORE.findall(rest) if score not in results] == []


def test_the_page_of_the_demo_has_its_seeds_and_how_far_they_are_apart():
    with (ROOT / "results" / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["row"] == "demo"]
    page = (DOCS / "guides" / "demo.md").read_text(encoding="utf-8")
    rows = {"among all others": "R@1", "among other type families": "R@1, other type family"}
    for row, measure in rows.items():
        seeds = [line for line in lines if line["measure"] == measure]
        values = [round(float(line["value"]), 3) for line in seeds]
        raw = f"{float(seeds[0]['beside']):.3f}"
        each = ", ".join(f"{value:.3f}" for value in values)
        assert f"| {row} | {raw} | {each} | {max(values) - min(values):.3f} |" in page


def test_the_guide_quotes_what_an_audit_found():
    (line,) = (line for line in audit.read() if line["folds"] == "2")
    assert audit.said(line) in (DOCS / "guides" / "use.md").read_text(encoding="utf-8")
