"""Nothing a user can meet is undocumented, and nothing documented is gone."""

import ast
import inspect
import re
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import tuplet
from tuplet.data.source_errors import HINTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "src" / "tuplet").rglob("*.py"))
PACKAGES = [name for name in tuplet.__all__ if isinstance(getattr(tuplet, name), ModuleType)]
PUBLIC = [(package, name) for package in PACKAGES for name in getattr(tuplet, package).__all__]


@cache
def referring() -> list[tuple[str, ast.expr]]:
    """Every `reference=` of the code, with the file that says it."""
    calls = [
        (path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    return [(path.name, word.value) for path, call in calls for word in call.keywords if word.arg == "reference"]


def words(value: ast.expr) -> list[str]:
    """The ids in an expression; a conditional expression has two."""
    return [node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def references() -> set[str]:
    """The ids that errors in the code refer to."""
    return {word for _, value in referring() for word in words(value)} | set(HINTS)


def explained() -> list[str]:
    return re.findall(r"^### (\S+)$", (DOCS / "errors.md").read_text(), re.MULTILINE)


def test_every_error_reference_is_explained_once():
    assert sorted(references() - set(explained())) == []
    assert len(explained()) == len(set(explained()))


def test_every_explained_error_can_still_be_raised():
    assert sorted(set(explained()) - references()) == []


def test_every_error_reference_is_written_out_in_kebab_case():
    """An id put together at run time could not be compared with the page; one passed on from another error is fine."""
    unreadable = [(name, ast.unparse(value)) for name, value in referring() if not words(value)]
    assert [one for one in unreadable if not one[1].endswith(".reference") and one != ("errors.py", "reference")] == []
    assert [one for one in references() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one)] == []


def test_every_public_name_says_what_it_is_in_one_sentence():
    things = {f"{package}.{name}": getattr(getattr(tuplet, package), name) for package, name in PUBLIC}
    reported = {name: inspect.getdoc(thing) or "" for name, thing in things.items() if _is_defined(thing)}
    assert [name for name, text in reported.items() if not text.partition("\n")[0].endswith(".")] == []


def test_every_parameter_of_a_public_function_is_described():
    functions = [
        thing for package, name in PUBLIC if inspect.isfunction(thing := getattr(getattr(tuplet, package), name))
    ]
    assert {thing.__qualname__: missing for thing in functions if (missing := _undescribed(thing))} == {}


def _is_defined(thing) -> bool:
    return inspect.isclass(thing) or inspect.isfunction(thing)


def _undescribed(function) -> set[str]:
    text = inspect.getdoc(function) or ""
    listed = re.findall(r"^\s*\*{0,2}(\w+)(?: \([^)]*\))?:", text, re.MULTILINE)
    reported = re.findall(r"`(\w+)`", text)
    parameters = set(inspect.signature(function).parameters)
    return parameters - {*listed, *reported} if len(parameters) > 1 else set()


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert listed == pages


def test_every_dependency_has_its_sentence_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.match(r"[\w-]+", one)[0] for one in wanted} - {"tuplet"}
    assert (
        set(re.findall(r"^\|(?: `\[\w+\]` \|)? `([\w-]+)` \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE))
        == names
    )


def test_every_make_target_that_contributors_read_about_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`make ([a-z]+)", page.read_text())}
    assert named - targets == set()


def test_the_readme_fits_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60


def test_every_change_is_of_a_known_kind():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    kinds = {kind["directory"] for kind in project["tool"]["towncrier"]["type"]}
    changes = [path for path in (ROOT / "changelog.d").iterdir() if path.name not in ("README.md", "template.md")]
    assert [path.name for path in changes if path.name.split(".")[1:] not in [[kind, "md"] for kind in kinds]] == []
