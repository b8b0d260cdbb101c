"""The course: chapters in `course/` are run as notebooks, and become pages with what they printed and drew.

`python docs/chapters.py [NAME ...]` runs the chapters whose code or values have changed, `--again` runs them anyway,
`--check` runs nothing and says which would have to be run.

A chapter is Markdown. Each ```` ```python ```` block is a cell; one with a name, ```` ```python NAME ````, draws
`docs/images/chapters/NAME.svg`. `{{value:.3f}}` is a field of an f-string, filled in when all cells have run; in pages
that are no chapter `{{@triplets value:.3f}}` says whose value it is. `NAME = 400  # short: 4` runs with 4 in the tests.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draw import themed

ROOT = Path(__file__).parent.parent
SOURCES, PAGES, IMAGES = ROOT / "course", ROOT / "docs" / "course", ROOT / "docs" / "images" / "chapters"
NOTE = "<!-- Written by docs/chapters.py from course/{name}.md; `make course` runs what has changed. -->"
ADDRESS = "https://github.com/tuplet-dev/tuplet/blob/main/docs/"  # a downloaded notebook has no pages beside it
ORDER = ("pairs", "triplets", "npair", "nce", "margins", "graded", "instances", "matrix", "evaluation")
FENCE = re.compile(r"^```python ?(?P<name>[\w-]*)\n(?P<code>.*?)^```\n", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"\{\{(?:@(?P<chapter>\w+) )?(?P<value>.+?)\}\}")
LENGTH = re.compile(r"  # short: .+$", re.MULTILINE)
SHORT = re.compile(r"^(\w+ = ).+?  # short: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """Python of a chapter, and the figure it draws, if any."""

    name: str
    code: str


@dataclass(frozen=True)
class Chapter:
    """A chapter as it is written."""

    name: str
    text: str

    @property
    def cells(self) -> list[Cell]:
        """What is run, in order."""
        return [Cell(found["name"], found["code"]) for found in FENCE.finditer(self.text)]

    @property
    def prose(self) -> list[str]:
        """What stands before, between and behind the cells."""
        return FENCE.split(self.text)[:: len(FENCE.groupindex) + 1]

    @property
    def digest(self) -> str:
        """Of the code alone, whatever tests run in its place: words may change without a run."""
        codes = [f"{cell.name}\n{LENGTH.sub('', cell.code)}" for cell in self.cells]
        return hashlib.sha256("\n".join(codes).encode()).hexdigest()

    def shortened(self) -> list[str]:
        """The code with the few steps that tests have time for."""
        return [SHORT.sub(r"\1\2", cell.code) for cell in self.cells]


def read(name: str) -> Chapter:
    """A chapter of this name."""
    return Chapter(name, (SOURCES / f"{name}.md").read_text(encoding="utf-8"))


def chapters() -> list[Chapter]:
    """Those that are written, in order."""
    return [read(name) for name in ORDER if (SOURCES / f"{name}.md").exists()]


def wanted(name: str) -> list[str]:
    """The fields of a chapter that it or another page shows."""
    fields = [
        (found["chapter"] or source.stem, found["value"])
        for source in sorted(SOURCES.glob("*.md"))
        for found in FIELD.finditer(source.read_text(encoding="utf-8"))
    ]
    return list(dict.fromkeys(value for chapter, value in fields if chapter == name))


def stored(name: str) -> dict[str, Any]:
    """What a chapter gave when it was last run."""
    path = SOURCES / "outputs" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"code": "", "values": {}}


def is_fresh(chapter: Chapter) -> bool:
    """Whether what is stored is of this code and has all values."""
    found = stored(chapter.name)
    return found["code"] == chapter.digest and set(wanted(chapter.name)) <= set(found["values"])


def filled(text: str, name: str) -> str:
    """Text with its fields filled in."""
    return FIELD.sub(lambda found: stored(found["chapter"] or name)["values"][found["value"]], text)


def stale(names: Iterable[str] = ORDER) -> list[str]:
    """The chapters that must be run before their pages can be written."""
    return [chapter.name for chapter in chapters() if chapter.name in names and not is_fresh(chapter)]


def pages() -> dict[Path, str]:
    """Every page of the course and what it must hold."""
    if stale():
        raise SystemExit(f"Outputs are not of this code: {', '.join(stale())}. `make course` runs these chapters.")
    texts = {PAGES / f"{chapter.name}.md": page(chapter) for chapter in chapters()}
    texts |= {PAGES / f"{chapter.name}.ipynb": notebook(chapter) for chapter in chapters()}
    for name in ("index", "claims"):
        source = SOURCES / f"{name}.md"
        if source.exists():
            texts[PAGES / source.name] = noted(name, filled(source.read_text(encoding="utf-8"), name))
    return texts


def page(chapter: Chapter) -> str:
    """The chapter with what its cells printed; code that draws is folded away."""
    found = stored(chapter.name)
    parts = []
    for prose, cell, printed in zip(chapter.prose, [*chapter.cells, None], [*found["printed"], ""], strict=True):
        parts.append(filled(prose, chapter.name))
        if cell is None:
            continue
        code = f"```python\n{cell.code}```\n"
        if cell.name:
            code = f'<details markdown="1">\n<summary>Code of this figure</summary>\n\n{code}\n</details>\n'
        parts.append(code + (f"\n```text\n{printed}```\n" if printed else ""))
    title, _, rest = "".join(parts).partition("\n")
    download = f"[Download this chapter as a notebook]({chapter.name}.ipynb), with what it printed and drew."
    ran = f"Run in {found['seconds']} s of one core, with {found['versions']}; all that is printed here is of that run."
    return noted(chapter.name, f"{title}\n\n{download}\n{rest.rstrip()}\n\n---\n\n{ran}\n")


def noted(name: str, text: str) -> str:
    """The page with a note for whoever edits it, below the title: a title that does not come first names no page."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{NOTE.format(name=name)}\n{rest}"


def notebook(chapter: Chapter) -> str:
    """The chapter as a notebook of format 4.5 with its outputs."""
    found = stored(chapter.name)
    cells: list[dict[str, Any]] = []
    for prose, cell, printed in zip(chapter.prose, [*chapter.cells, None], [*found["printed"], ""], strict=True):
        words = alone(filled(prose, chapter.name))
        if words:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": lines(words)})
        if cell is None:
            continue
        outputs: list[dict[str, Any]] = []
        if printed:
            outputs.append({"name": "stdout", "output_type": "stream", "text": lines(printed)})
        if cell.name:
            svg = (IMAGES / f"{cell.name}.svg").read_text(encoding="utf-8")
            data = {"image/svg+xml": lines(svg), "text/plain": ["<Figure>"]}
            outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
        code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs}
        cells.append(code | {"source": lines(cell.code.strip())})
    for number, one in enumerate(cells):
        one["id"] = f"{chapter.name}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def lines(text: str) -> list[str]:
    """A text as notebooks keep it."""
    return text.splitlines(keepends=True)


def alone(text: str) -> str:
    """Prose that needs no other page beside it: links lead to the site, figures are those of the cells."""
    shown = r"^(<div class=\"tuplet-figure\".*|!\[[^]]*\]\(\.\./images/.*)\n"
    text = re.sub(shown, "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\(\.\./([^)]+)\)", rf"]({ADDRESS}\1)", text)
    return re.sub(r"\]\((\w+\.md[^)]*)\)", rf"]({ADDRESS}course/\1)", text).strip()


def run(chapter: Chapter) -> None:
    """Run the cells in a kernel of their own, and store what they print, draw and leave behind."""
    from nbclient import NotebookClient  # noqa: PLC0415  # the checks need no kernel
    from nbformat.v4 import new_code_cell, new_notebook  # noqa: PLC0415

    values = wanted(chapter.name)
    codes = [beginning(), *(cell.code for cell in chapter.cells), asking(values)]
    book = new_notebook(cells=[new_code_cell(code) for code in codes])
    NotebookClient(book, timeout=1200, kernel_name="python3", extra_arguments=["--log-level=40"]).execute()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for cell, ran in zip(chapter.cells, book.cells[1:-1], strict=True):
        svgs = [one["data"]["image/svg+xml"] for one in ran.outputs if "image/svg+xml" in one.get("data", {})]
        if len(svgs) != bool(cell.name):
            raise SystemExit(f"{chapter.name}: a cell named {cell.name!r} drew {len(svgs)} figures, not one if named.")
        if svgs:
            tidy = "\n".join(line.rstrip() for line in svgs[0].strip().splitlines())
            (IMAGES / f"{cell.name}.svg").write_text(themed(tidy + "\n"), encoding="utf-8")
    *printed, answers = [said(ran) for ran in book.cells[1:]]
    results = json.loads(answers)
    kept = {"code": chapter.digest, "printed": printed} | results.pop("")
    path = SOURCES / "outputs" / f"{chapter.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept | {"values": results}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def said(cell: Any) -> str:
    """What a cell printed, and what the library had to say; a warning would be a defect of the chapter."""
    told = "".join(one["text"] for one in cell.outputs if one.output_type == "stream")
    if "Warning" in told:
        raise SystemExit(told)
    return told


def beginning() -> str:
    """What notebooks do by themselves, one thread, and the style of the house."""
    import figures  # noqa: PLC0415  # it needs matplotlib

    cycle = [figures.NEAR, figures.FAR, figures.THIRD, "#8d6a9f", "#b08a00", figures.QUIET]
    return f"""%matplotlib inline
%config InlineBackend.figure_formats = ["svg"]
%config InlineBackend.print_figure_kwargs = {{"metadata": {{"Date": None}}, "bbox_inches": None}}
import matplotlib.pyplot, torch
torch.set_num_threads(1)
matplotlib.pyplot.rcParams.update({figures.STYLE!r})
matplotlib.pyplot.rcParams.update({{"savefig.transparent": True, "figure.facecolor": "none", "axes.facecolor": "none"}})
matplotlib.pyplot.rcParams["axes.prop_cycle"] = matplotlib.cycler(color={cycle!r})
"""


def asking(values: Iterable[str]) -> str:
    """A cell that prints all fields, and the versions."""
    return f"""import json, platform, time
answers = {{field: eval("f'''{{" + field + "}}'''") for field in {list(values)!r}}}
versions = f"torch {{torch.__version__}} and Python {{platform.python_version()}}"
print(json.dumps(answers | {{"": {{"seconds": round(time.process_time()), "versions": versions}}}}))
"""


def main(arguments: list[str]) -> int | str:
    """Run what has changed, and write the pages."""
    names = [word for word in arguments if not word.startswith("--")]
    unknown = set(names) - set(ORDER)
    if unknown:
        return f"No chapter {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}."
    chosen = names or list(ORDER)
    if "--check" in arguments:
        return f"To run again: {', '.join(stale(chosen))}. `make course` does." if stale(chosen) else 0
    for chapter in chapters():
        if chapter.name in (chosen if "--again" in arguments else stale(chosen)):
            run(chapter)
            print(f"ran {chapter.name} in {stored(chapter.name)['seconds']} s")
    if stale():
        return f"Pages are not written before these are run too: {', '.join(stale())}."
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
