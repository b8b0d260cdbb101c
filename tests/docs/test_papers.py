"""Addresses of papers have the form of their publisher, and a year in them agrees with the one that is stated."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "reference/losses" not in path.as_posix()]
STATED = re.compile(r"\[(?P<name>[^\]]+)\]\((?P<address>https://[^)\s]+)\)(?:, (?P<year>(?:19|20)\d\d))?")
PAPERS = {  # what an address has to be, and where the year of its publication is in it
    r"https://arxiv\.org/abs/(?P<posted>\d\d)(?:0[1-9]|1[0-2])\.\d{4,5}": 2000,
    r"https://doi\.org/10\.1109/[A-Z]+\.(?P<year>\d{4})\.\d+": 0,
    r"https://doi\.org/10\.\d{4,9}/\S+": None,
    r"https://ieeexplore\.ieee\.org/document/\d+": None,
    r"https://openaccess\.thecvf\.com/content[_/][A-Z]+_?(?P<year>\d{4})/html/\w[\w-]+_[A-Z]+_(?P=year)_paper\.html": 0,
    r"https://papers\.nips\.cc/paper/(?P<year>\d{4})/hash/[0-9a-f]{32}-Abstract\.html": 0,
    r"https://proceedings\.mlr\.press/v\d+/[a-z]+(?P<year>\d\d)[a-z]\.html": 2000,
    r"https://www\.jmlr\.org/papers/v(?P<year>\d+)/[a-z]+\d\d[a-z]\.html": 1999,
}
NO_PAPERS = ("https://github.com/", "https://optuna.org")
PUBLISHED_WITHIN = 3  # years between a preprint and the paper


def listed() -> list[tuple[str, str, int]]:
    """Page, address and stated year of every link to a paper."""
    found = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in STATED.finditer(text):
            if not link["address"].startswith(NO_PAPERS):
                years = [link["year"], *re.findall(r"\b(?:19|20)\d\d\b", link["name"])[::-1]]
                found.append((page.name, link["address"], int(next(filter(None, years), 0))))
    return found


def test_every_link_to_a_paper_has_a_known_form_and_a_year_that_agrees():
    wrong = []
    for page, address, stated in listed():
        form = next((form for form in PAPERS if re.fullmatch(form, address)), None)
        if form is None or not stated:
            wrong.append((page, address, stated))
            continue
        named = re.fullmatch(form, address).groupdict()
        base = PAPERS[form] or 0
        if "posted" in named:
            is_right = 0 <= stated - base - int(named["posted"]) <= PUBLISHED_WITHIN
        else:
            is_right = "year" not in named or stated == base + int(named["year"])
        if not is_right:
            wrong.append((page, address, stated))
    assert wrong == []


def test_a_paper_has_one_year_on_all_pages():
    years = defaultdict(set)
    for _, address, stated in listed():
        years[address].add(stated)
    assert len(years) > 50
    assert {address: found for address, found in years.items() if len(found) > 1} == {}


@pytest.mark.parametrize("folder", ["losses", "course", "ko/course"])
def test_every_page_of_a_loss_and_every_chapter_has_a_paper(folder):
    chapters = [page for page in (ROOT / "docs" / folder).glob("*.md") if page.stem not in ("index", "table", "claims")]
    with_one = {name for name, _, _ in listed()}
    assert chapters
    assert [page.name for page in chapters if page.name not in with_one] == []
