"""Korean pages of the course: words of `course/ko/NAME.md` around the code, values and figures of the English chapter.

A translation has `[[cell]]` where the chapter has code, and the links of the chapter. It is left out while it does not
fit: then the site says that the chapter waits for its translation, and leads to the English one.
"""

import re
from pathlib import Path

import chapters
from markdown.extensions.toc import slugify, unique

KOREAN = chapters.SOURCES / "ko"
PAGES = chapters.PAGES.parent / "ko" / "course"
CELL = re.compile(r"^(\[\[cell\]\]|<!-- cell -->)\n", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
HEADING = re.compile(r"^(#{2,} )(.+)$", re.MULTILINE)
WORDS = {
    r"\[Download this chapter as a notebook\]\((\w+\.ipynb)\), with what it printed and drew\.": (
        r"[이 장을 노트북으로 내려받기](../../course/\1). 출력과 그림이 들어 있다."
    ),
    r"Code of this figure": "이 그림의 코드",
    r"^Run in (\d+) s of one core, with (.+); all that is printed here is of that run\.$": (
        r"코어 하나에서 \1초 동안 실행했다(\2). 여기 출력된 것은 모두 그 실행의 것이다."
    ),
}


def pages() -> dict[Path, str]:
    """Every page that has a translation which fits."""
    names = [source.stem for source in sorted(KOREAN.glob("*.md")) if fits(source.stem)]
    return {PAGES / f"{name}.md": page(name) for name in names}


def both(name: str) -> tuple[str, chapters.Chapter]:
    """The translation of a chapter, and the chapter."""
    return (KOREAN / f"{name}.md").read_text(encoding="utf-8"), chapters.read(name)


def fits(name: str) -> bool:
    """Whether cells, headings and values of a translation are those of the chapter."""
    korean, english = both(name)
    values = {found.groups() for found in chapters.FIELD.finditer(korean)}
    known = {found.groups() for found in chapters.FIELD.finditer(english.text)}
    headings = len(HEADING.findall(korean)) == len(HEADING.findall(prose(english)))
    return len(CELL.findall(korean)) == len(english.cells) and headings and values == known


def prose(chapter: chapters.Chapter) -> str:
    """A chapter without its code, in which a comment may look like a heading."""
    return "\n".join(chapter.prose)


def page(name: str) -> str:
    """The translation with what the chapter gave when it was last run."""
    korean, english = both(name)
    ids: set[str] = set()
    anchors = iter([unique(slugify(_bare(text), "-"), ids) for _, text in HEADING.findall(prose(english))])
    korean = HEADING.sub(lambda found: f"{found[0]} {{ #{next(anchors)} }}", korean)
    codes = iter([found[0] for found in chapters.FENCE.finditer(english.text)])
    text = CELL.sub(lambda _: next(codes), LINK.sub(_from_here, korean))
    if name not in chapters.ORDER:
        return chapters.noted(f"ko/{name}", chapters.filled(text, name))
    whole = chapters.page(chapters.Chapter(name, text))
    for said, translated in WORDS.items():
        whole = re.sub(said, translated, whole, flags=re.MULTILINE)
    return whole.replace(f"course/{name}.md;", f"course/ko/{name}.md;", 1)


def _from_here(found: re.Match[str]) -> str:
    """A link of the English chapter, as it has to be written one folder deeper; to a translation where there is one."""
    path = found[1]
    if (KOREAN / path).exists() and fits(Path(path).stem):
        return found[0]
    return "](../" + (path if path.startswith("../") else f"../course/{path}")


def _bare(heading: str) -> str:
    """The words of a heading, as they are seen."""
    return re.sub(r"[`$*]|\]\([^)]*\)|\[", "", heading)
