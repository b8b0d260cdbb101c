"""What is translated says the same: terms, formulas, figures and code are those of the English page."""

import re
from collections import Counter
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KOREAN = DOCS / "ko"
PAGES = sorted(KOREAN.rglob("*.md"))
FIGURES = sorted((DOCS / "javascripts" / "figures").glob("*.js"))
SHARED = {
    "formulas": r"\$\$.+?\$\$",
    "figures": r'data-figure="\w+"',
    "code": r"```(?:python|text)\n.*?```",
    "papers": r"https://[^\s)>]+",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(KOREAN)))
def test_a_translation_shares_formulas_figures_code_and_papers(page):
    english = (DOCS / page.relative_to(KOREAN)).read_text(encoding="utf-8")
    korean = page.read_text(encoding="utf-8")
    for shared in SHARED.values():
        assert re.findall(shared, korean, re.DOTALL) == re.findall(shared, english, re.DOTALL)


OUTCOMES = {"shown": "확인", "bounded": "제한", "refuted": "반박"}


def test_each_claim_leads_to_the_same_place_with_the_same_numbers_and_outcome():
    def claims(folder: Path, outcomes: dict[str, str]) -> list[tuple]:
        lines = (folder / "claims.md").read_text(encoding="utf-8").splitlines()
        rows = [line.strip("|").split(" | ") for line in lines if re.match(r"\| \d", line)]
        return [
            (row[0], row[2], sorted(re.findall(r"\{\{.+?\}\}", row[4])), outcomes.get(row[5].strip())) for row in rows
        ]

    course = DOCS.parent / "course"
    korean = {name: name for name in OUTCOMES.values()}
    assert len(claims(course, OUTCOMES)) == 34
    assert claims(course / "ko", korean) == claims(course, OUTCOMES)


def test_the_glossary_has_the_terms_with_the_english_beside_them():
    """A term or two that somebody added may wait for whoever speaks Korean."""

    def terms(path: Path, column: int) -> list[str]:
        rows = [line.split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        return [row[column].strip("| ") for row in rows if not set(row[0]) <= set("|- ")]

    english = terms(DOCS / "glossary.md", 0)
    exceptions = english.index("word")  # the table of exceptions has no terms
    wanted = [term for term in english[:exceptions] if term != "term"]
    translated = [term for term in terms(KOREAN / "glossary.md", 1) if term != "영어"]
    assert [term for term in wanted if term in translated] == translated
    assert len(translated) > 0.9 * len(wanted)


def test_every_word_of_a_figure_is_translated():
    translated = (DOCS / "javascripts" / "korean.js").read_text(encoding="utf-8")
    known = set(re.findall(r'^  (?:"(.+?)"|(\w+)):', translated, re.MULTILINE))
    known = {quoted or bare for quoted, bare in known}
    said = r'(?:title|label|lead|xLabel|yLabel|option|text): "(.+?)"|button\("(.+?)"|\.text\([^"]*"(.+?)"|say\("(.+?)"'
    shown = {
        word
        for figure in FIGURES
        for found in re.findall(said, figure.read_text(encoding="utf-8"))
        for word in found
        if re.search(r"[a-z]{4}", word)
    }
    assert shown
    assert shown - known == set()


CHAPTERS = sorted(page for page in (KOREAN / "course").glob("*.md") if page.stem not in {"claims", "index"})
NO_PROSE = r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<!--.*?-->|\{ #[^}]*\}|^\s*\d+\. |<[^>]*>"
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
TERMS = (
    "앵커",
    "후보",
    "양성",
    "음성",
    "마진",
    "클래스 가중치",
    "잡음 단어",
    "증강",
    "메모리 뱅크",
)  # of the field, in one sense


def prose(page: Path) -> str:
    return re.sub(NO_PROSE, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", sorted((KOREAN / "course").glob("*.md")), ids=lambda page: page.stem)
def test_a_chapter_has_the_numbers_of_the_english_one(page):
    """Numbers of one digit may be words in one of the languages."""
    english, korean = (
        Counter(number for number in NUMBER.findall(prose(one)) if len(number) > 1)
        for one in (DOCS / page.relative_to(KOREAN), page)
    )
    assert english
    assert english == korean


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_term_of_the_field_has_the_english_beside_it_once_in_each_chapter(page):
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", (KOREAN / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    english = {
        korean.partition("(")[0].strip(): words
        for term, named in rows
        for korean, words in zip(term.split(", "), named.split(", "), strict=False)
    }
    text = prose(page)
    sentences = "\n".join(line for line in text.splitlines() if not line.startswith(("#", "|", "!", "- ")))
    used = [term for term in TERMS if re.search(rf"(?<![가-힣]){term}(?! (?:비|뱅크))", sentences)]
    assert used
    assert [term for term in used if f"{term}({english[term].split()[0]}" not in sentences.replace("*", "")] == []
