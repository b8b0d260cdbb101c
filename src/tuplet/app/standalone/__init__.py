"""Programs that go along with an exported model and run without tuplet.

A program is put together from modules of this folder: what reads items (`of_`), what makes squares of images (`by_`)
and what runs the network (`with_`). Only what a model needs is in it, function by function, as it stands here.
"""

import ast
import sys
from collections.abc import Iterable
from importlib.resources import files
from typing import Literal

Inputs = Literal["images", "arrays", "tables"]
Network = Literal["onnx", "torch", "safetensors"]
Square = Literal["crop", "pad", "stretch", "middle"]


def program(inputs: Inputs, network: Network, square: Square | None = None) -> str:
    """The source of a program.

    Args:
        inputs: What is embedded; tables are read by the names of their columns, and arrays are read beside them.
        network: The form of the network.
        square: Of images, how they become squares; "middle" crops after the shorter side was given a length.
    """
    names = [f"of_{inputs}", *([f"by_{square}"] if square else []), f"with_{network}"]
    sources = [files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8") for name in names]
    trees = [ast.parse(source) for source in sources]
    functions = [
        _lines(source, node)
        for source, tree in zip(sources, trees, strict=True)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    ]
    says, start = (_lines(sources[0], trees[0].body[at]) for at in (0, -1))
    return "\n\n\n".join([f"{says}\n\n{_imports(trees)}", *functions, start]) + "\n"


def _lines(source: str, node: ast.stmt) -> str:
    return "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])


def _imports(trees: Iterable[ast.Module]) -> str:
    """What modules import, once: Python's own first, nothing of this package."""
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(alias) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(__name__):
            named.setdefault(node.module, set()).update(alias.name for alias in node.names)
    lines = [(name, f"import {name}") for name in sorted(plain)]
    lines += [(name, f"from {name} import {', '.join(sorted(named[name]))}") for name in sorted(named)]
    known = [[line for name, line in lines if _is_of_python(name) is first] for first in (True, False)]
    return "\n\n".join("\n".join(block) for block in known if block)


def _is_of_python(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names
