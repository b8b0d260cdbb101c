"""Writes the pages that the code already knows: commands, settings, losses, Python names, schemas, pictures.

`python docs/generate.py` writes them, `python docs/generate.py --check` only says which are out of date.
A page is generated as a whole, or in part between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import accelerators
import chapters
import draw
import measured
import overview
import scaling
import settings
import trained
import translated

import tuplet
from tuplet.app.cli import HELP
from tuplet.app.cli.commands import assemble
from tuplet.comparison.results import schema as comparison_schema
from tuplet.results import schema
from tuplet.types import Family

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; `make fix` writes it again. -->\n\n"
ERRORS = [name for name in tuplet.__all__ if name.endswith("Error")]
FAMILIES = DOCS.parent / "src" / "tuplet" / "app" / "families.json"
SITE = DOCS.parent / "mkdocs.yml"
PACKAGES = [name for name in tuplet.__all__ if isinstance(getattr(tuplet, name), ModuleType)]


def pages() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    texts = {DOCS / "images" / "matrix.svg": draw.matrix()}
    texts |= {DOCS / "benchmarks.md": NOTE + measured.page() + "\n" + accelerators.section()}
    texts |= {DOCS / "reference" / "command-line.md": NOTE + command_line()}
    command = assemble()
    context = command.make_context("tuplet", [], resilient_parsing=True, terminal_width=80)
    texts |= {HELP: command.get_help(context) + "\n"}
    texts |= {DOCS / "reference" / "settings.md": NOTE + settings.page()}
    texts |= {DOCS / "reference" / "evaluation.schema.json": json.dumps(schema(), indent=2) + "\n"}
    texts |= {DOCS / "reference" / "comparison.schema.json": json.dumps(comparison_schema(), indent=2) + "\n"}
    texts |= {DOCS / "reference" / "tuplet.md": NOTE + python_names(tuplet, skip=PACKAGES)}
    for name in PACKAGES:
        texts[DOCS / "reference" / f"tuplet.{name}.md"] = NOTE + python_names(getattr(tuplet, name))
    texts |= {DOCS / "reference" / "losses" / f"{name}.md": NOTE + loss_page(name) for name in own_losses()}
    texts[SITE] = in_navigation(SITE.read_text())
    texts |= {FAMILIES: families()} | chapters.pages() | translated.pages()
    scale = DOCS / "scale.md"
    texts[scale] = between(between(scale.read_text(), "measured", scaling.measured()), "carried", scaling.carried())
    guide = DOCS / "losses" / "index.md"
    parts = {"losses": loss_table(), "choosing": choosing(), "ranking": trained.ranking()}
    texts[guide] = guide.read_text()
    for part, text in parts.items():
        texts[guide] = between(texts[guide], part, text)
    table = DOCS / "losses" / "table.md"
    texts[table] = NOTE + overview.page(own_losses(), SHARED_PAGES)
    for page in sorted((DOCS / "losses").glob("*.md")):
        if page not in (guide, table):
            names = [name for name in own_losses() if SHARED_PAGES.get(name, name) == page.stem]
            names += ["negative_sampling"] if page.stem == "nce" else []
            texts[page] = between(page.read_text(), "measured", trained.table(names))
    return texts


def between(page: str, part: str, text: str) -> str:
    """The page with the text between the marks of one part replaced."""
    marked = re.compile(rf"(<!-- generated: {part} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"A page has no part <!-- generated: {part} --> ... <!-- end -->.")
    return marked.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", page)


def command_line() -> str:
    """`tuplet --help`, and that of every command."""
    return "\n".join(["# Command line\n", *_help(assemble(), "tuplet", parent=None, level=1)])


def _help(shown: Any, name: str, *, parent: Any, level: int) -> Iterator[str]:
    context = shown.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=100, color=False)
    if parent:
        yield f"{'#' * level} {name}\n"
    yield f"```text\n{shown.get_help(context).strip()}\n```\n"
    for child, below in sorted(getattr(shown, "commands", {}).items()):
        yield from _help(below, child, parent=context, level=level + 1)


KINDS = (
    ("**classes**, a few examples of each in a batch", "class", False, "supcon"),
    ("**classes**, a fixed set while training", "class", True, "arcface"),
    ("**pairs**: two views, a query and its positive", "pair", False, "info_nce"),
    ("**pairs with a score** of how alike they are", "scored", False, "cosent"),
    ("**continuous labels**", "graded", False, "log_ratio"),
    ("**nothing** but the examples", "example", False, "info_nce"),
    ("**series** whose future is to be predicted", "none", False, "cpc"),
    ("**words** in text", "target", False, "nce"),
)
"""What a person has, the supervision, whether the loss owns class weights, and what to start with."""


def choosing() -> str:
    """One row for each kind of data: what to start with, and what the others are for."""
    rows = ["| you have | start with | then |", "| --- | --- | --- |"]
    for title, supervision, has_weights, start in KINDS:
        found = {name: tuplet.losses.registry[name] for name in tuplet.losses.registry}
        fits = {
            name: loss
            for name, loss in found.items()
            if loss.supervision == supervision and ("num_classes" in loss.options) == has_weights
        }
        first = found[start]
        then = [f"{_page(name)}: {loss.suits}" if loss.suits else _page(name) for name, loss in fits.items()]
        others = [entry for name, entry in zip(fits, then, strict=True) if name != start]
        head = f"{_page(start)}: {first.suits}" if start in fits else f"{_page(start)} on two augmented views"
        rows.append(f"| {title} | {head} | {'<br>'.join(others)} |")
    return "\n".join(rows) + "\n"


def families() -> str:
    """The losses of each family, for lists of presets that import nothing heavy."""
    found: dict[str, list[str]] = {family: [] for family in get_args(Family)}
    for name in own_losses():
        found[tuplet.losses.registry[name].family].append(name)
    return json.dumps(found, indent=2) + "\n"


def loss_table() -> str:
    """One row per registered loss."""
    rows = ["| recipe name | what it is | labels | module | function |", "| --- | --- | --- | --- | --- |"]
    for name in tuplet.losses.registry:
        module, function = _both(name)
        links = " | ".join(f"[`{thing.__name__}`]{_link(thing, name)}" for thing in (module, function))
        rows.append(f"| {_page(name)} | {first_line(module)} | {module.supervision} | {links} |")
    return "\n".join(rows) + "\n"


SHARED_PAGES = {
    "supcon": "info_nce",
    "nt_xent": "info_nce",
    "angle": "cosent",
    "instance_discrimination": "instance",
    "combined_margin": "arcface",
}


def _page(name: str, folder: str = "") -> str:
    """Name of a loss, with its page if it has one of its own or shares one."""
    page = SHARED_PAGES.get(name, name)
    return f"[`{name}`]({folder}{page}.md)" if (DOCS / "losses" / f"{page}.md").exists() else f"`{name}`"


def own_losses() -> list[str]:
    """The registered losses that are of tuplet itself."""
    return [name for name in tuplet.losses.registry if tuplet.losses.registry[name].__module__.startswith("tuplet.")]


def _both(name: str) -> tuple[Any, Any]:
    """The module of a loss and its function."""
    module = tuplet.losses.registry[name]
    return module, getattr(sys.modules[module.__module__], name)


def loss_page(name: str) -> str:
    """The module and the function of one loss."""
    module, _ = _both(name)
    parts = [f"# {name}\n", f"{first_line(module)} When to use it: {_page(name, '../../losses/')}.\n"]
    parts += [
        declared(thing, _home(thing)) if _is_declared(thing) else f"::: {_home(thing)}\n" for thing in _both(name)
    ]
    return "\n".join(parts)


def in_navigation(text: str) -> str:
    """The configuration of the site, with the pages of all losses in the reference."""
    lines = [f"          - {name}: reference/losses/{name}.md" for name in own_losses()]
    marked = re.compile(r"(^ +# generated: losses\n).*?(^ +# end\n)", re.DOTALL | re.MULTILINE)
    return marked.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], text)


def _link(thing: Any, name: str) -> str:
    """To the entry of a loss: by name where its source is read, by place where a declaration is written out."""
    return f"(../reference/losses/{name}.md#{_home(thing)})" if _is_declared(thing) else f"[{_home(thing)}]"


def python_names(module: ModuleType, *, skip: list[str] | None = None) -> str:
    """A page that shows every public name of a module, but for packages that have a page of their own."""
    names = [name for name in module.__all__ if name not in (skip or []) and not name.startswith("__")]
    things = {name: getattr(module, name) for name in names}
    shown = {_home(thing) for package in skip or [] for thing in _defined(getattr(tuplet, package))}
    parts = [f"# {module.__name__}\n", f"{first_line(module)}\n"]
    if module is tuplet.losses:
        parts += ["Each loss has a page of its own:\n", *(f"- {entry}" for entry in _loss_entries()), ""]
        elsewhere = [id(thing) for name in own_losses() for thing in _both(name)]
        things = {name: thing for name, thing in things.items() if id(thing) not in elsewhere}
    for name, thing in things.items():
        if isinstance(thing, ModuleType):
            continue
        home = _home(thing) if _is_defined(thing) else f"{module.__name__}.{name}"
        if home in shown:  # a link has one place to lead to
            parts.append(f"[`{module.__name__}.{name}`][{home}]: {first_line(thing)}\n")
        elif _is_declared(thing):
            parts.append(declared(thing, home))
        else:
            parts.append(f"::: {home}\n")
    return "\n".join(parts)


def _loss_entries() -> Iterator[str]:
    for name in own_losses():
        module, function = _both(name)
        yield f"[`{module.__name__}`, `{function.__name__}`](losses/{name}.md): {first_line(module)}"


def _is_declared(thing: Any) -> bool:
    """Whether a declaration made it and names its fields, so that its source has no signature to be read."""
    loss = getattr(thing, "declaration", thing)
    is_one = inspect.isclass(loss) and issubclass(loss, tuplet.losses.DeclaredLoss)
    return is_one and "\nArgs:\n" in (inspect.getdoc(loss) or "")


def declared(thing: Any, home: str) -> str:
    """The entry of a declared loss or of its function: signature and docstring."""
    kind = "class" if inspect.isclass(thing) else "function"
    head, _, rest = (inspect.getdoc(thing) or "").partition("\nArgs:\n")
    entries, _, tail = rest.partition("\n\n")
    rows = [f"- **`{name}`**: {note}" for name, note in settings.entries(entries).items()]
    tail = re.sub(r"^(Returns|References|Raises):\n", r"**\1**\n\n", tail, flags=re.MULTILINE)
    tail = "\n".join(line.removeprefix("    ") for line in tail.splitlines())
    title = f"## <code>{thing.__name__}</code> *{kind}* {{ #{home} }}"
    return "\n".join([title, "", f"```python\n{_call(thing)}\n```", "", head, "", *rows, "", tail, ""])


def _call(thing: Any) -> str:
    """How it is called, with defaults; types are in the settings and in the docstring."""
    parameters, by_keyword = [], False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not by_keyword:
            parameters.append("*")
            by_keyword = True
        is_set = parameter.default not in (parameter.empty, tuplet.engine.SINGLE_PROCESS)
        default = (
            f"={parameter.default!r}"
            if is_set
            else "=SINGLE_PROCESS"
            if parameter.default is not parameter.empty
            else ""
        )
        parameters.append(f"{'**' if parameter.kind is parameter.VAR_KEYWORD else ''}{parameter.name}{default}")
    return f"{thing.__name__}({', '.join(parameters)})"


def _defined(module: ModuleType) -> list[Any]:
    return [thing for name in module.__all__ if _is_defined(thing := getattr(module, name))]


def _is_defined(thing: Any) -> bool:
    return inspect.isclass(thing) or inspect.isfunction(thing)


def _home(thing: Any) -> str:
    """Where it is defined: a function and its module may have one name, and then only this path is clear."""
    return f"{thing.__module__}.{thing.__qualname__}"


def first_line(thing: Any) -> str:
    """The summary of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def main(arguments: list[str]) -> int | str:
    """Write what is out of date, or with `--check` name it."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if "--check" in arguments:
        names = ", ".join(str(path.relative_to(DOCS.parent)) for path in sorted(stale))
        return f"Out of date: {names}. `make fix` writes them again." if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
