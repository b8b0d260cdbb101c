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

modules = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))


def test_every_module_imports_only_from_the_layers_below_its_own():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_layer_of_the_contract_holds_every_module():
    """A module that no layer names would be free to import anything."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    named = {name.strip(" ()") for layer in contract["layers"] for part in layer.split("|") for name in part.split(":")}
    found = {f"tuplet.{path.stem}" for path in (ROOT / "src" / "tuplet").iterdir() if _is_code(path)}
    assert found - {"tuplet.__init__", "tuplet.__main__"} <= named


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))


@modules
def test_no_module_is_longer_than_a_person_reads_in_one_go(module):
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE


@modules
def test_no_function_is_longer_than_a_screen(module):
    functions = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]
    long = {node.name: size for node in functions if (size := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION}
    assert long == {}


@modules
def test_no_module_is_named_after_nothing(module):
    assert not NO_NAMES & {part.strip("_") for part in module.relative_to(ROOT / "src").with_suffix("").parts}


@modules
def test_the_library_neither_reads_the_environment_nor_unpickles(module):
    tree = ast.parse(module.read_text())
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"os.environ", "os.getenv", "pickle.load", "pickle.loads", "np.random.seed"}


@modules
def test_saved_tensors_are_loaded_as_weights_only(module):
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    assert all(any(word.arg == "weights_only" for word in call.keywords) for call in loads)


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
