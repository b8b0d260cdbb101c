"""Every error names a command that says more, and that command does."""

import json
import re
from pathlib import Path

import pytest

from tuplet import DataError
from tuplet.app.explanations import explanations

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HEADINGS = re.findall(r"^### (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_an_error_ends_with_the_command_that_explains_it(typed):
    error = DataError("There is nothing.", hint="", reference="disk-full")
    *_, line = str(error).splitlines()
    assert line.endswith(error.more)
    program, *words = error.more.split()
    assert program == "tuplet"
    assert typed(*words).stdout.strip() == explanations()["disk-full"]


def test_every_section_of_the_page_is_explained_by_its_own_text():
    found = explanations()
    assert list(found) == HEADINGS
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, text in found.items() if not text or f"### {name}\n\n{text}" not in page] == []
    assert [name for name, text in found.items() if re.search(r"^#+ ", text, re.MULTILINE)] == []


def test_without_an_id_every_error_is_listed(typed):
    rows = [json.loads(line) for line in typed("explain", "--json").stdout.splitlines()]
    assert [row["error"] for row in rows] == HEADINGS
    assert all(row["about"] and explanations()[row["error"]].startswith(row["about"]) for row in rows)


def test_as_json_it_is_one_object(typed):
    assert json.loads(typed("explain", "disk-full", "--json").stdout) == {
        "error": "disk-full",
        "text": explanations()["disk-full"],
    }


@pytest.mark.parametrize(("given", "near"), [("mising-file", "missing-file"), ("diskfull", "disk-full")])
def test_an_unknown_id_is_wrong_usage_and_the_nearest_are_named(typed, given, near):
    assert near in typed("explain", given, code=2).stderr
