"""The shape of the code is a fact, not a wish."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Self

import pytest

import shapes

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "src" / "tuplet").rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "interfaces", "misc"}


def test_every_layer_of_the_contract_holds_every_module():
    """A module that no layer names would be free to import anything."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    named = {name.strip(" ()") for layer in contract["layers"] for part in layer.split("|") for name in part.split(":")}
    found = {f"tuplet.{path.stem}" for path in (ROOT / "src" / "tuplet").iterdir() if _is_code(path)}
    assert found - {"tuplet.__init__", "tuplet.__main__"} <= named


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed once."""
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_no_module_is_longer_than_a_person_reads_in_one_go():
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}


def test_no_function_is_longer_than_a_screen(trees):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [(name, node) for name, tree in trees.items() for node in ast.walk(tree) if isinstance(node, kinds)]
    sizes = {(name, node.name): node.end_lineno - node.lineno + 1 for name, node in functions}
    assert {where: size for where, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_no_module_is_named_after_nothing():
    parts = {part.strip("_") for path in MODULES for part in path.relative_to(ROOT / "src").with_suffix("").parts}
    assert parts & NO_NAMES == set()


def test_saved_tensors_are_loaded_as_weights_only(trees):
    """What the linter forbids is named in pyproject.toml; this one depends on an argument."""
    calls = [(name, node) for name, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loads = [
        (name, {word.arg: ast.unparse(word.value) for word in call.keywords})
        for name, call in calls
        if ast.unparse(call.func) == "torch.load"
    ]
    assert loads
    assert [name for name, words in loads if words.get("weights_only") != "True"] == []


def test_control_flow_asks_for_the_class_of_an_error_and_not_for_its_id(trees):
    compared = [
        (name, node)
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for part in (node.left, *node.comparators)
        if isinstance(part, ast.Attribute) and part.attr in {"reference", "message", "hint"}
    ]
    assert [(name, ast.unparse(node)) for name, node in compared] == []


@pytest.mark.parametrize(
    "line",
    [
        "import os\nprint(os.environ)",
        "import os\nprint(os.getenv('HOME'))",
        "from os import environ",
        "import pickle\nprint(pickle.loads(b''))",
        "import numpy as np\nnp.random.seed(0)",
    ],
)
def test_the_linter_refuses_what_the_library_must_not_do(line):
    """Neither reads the environment nor unpickles nor keeps global randomness."""
    words = ["check", "-", "--quiet", "--config", ROOT / "pyproject.toml", "--select", "TID251"]
    place = ["--stdin-filename", ROOT / "src" / "tuplet" / "new.py"]
    program = Path(sys.executable).with_name("ruff")
    done = subprocess.run([program, *words, *place], input=line, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr


def test_test_modules_have_names_of_their_own():
    """One name in two folders would hide one of them from a reader of a failure."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_signature_but_self_is_checked_when_tests_run():
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if not name.endswith("__"):
            importlib.import_module(name)
    returned = [one.__annotations__.get("return") for one in shapes.UNCHECKED]
    assert [one for one, kind in zip(shapes.UNCHECKED, returned, strict=True) if kind is not Self] == []
