"""Docstrings of declared losses: written once, on the class, and completed for the module and for the function."""

import inspect
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

SECTION = re.compile(r"^(Inputs|Args):\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)

LABELS = {
    "class": "Class ids, or multi-hot rows; without them row i of `references` is the positive of row i.",
    "pair": "Class ids or pair ids; without them row i of `references` is the positive of row i.",
}


@dataclass(frozen=True)
class Described:
    """What a docstring says.

    Args:
        head: What comes before the arguments.
        options: What each option is.
        inputs: What each tensor of the function is.
        tail: What comes behind: errors, sources.
    """

    head: str
    options: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    tail: str = ""


def described(cls: Any, text: str | None) -> Described | None:
    """Read the docstring of a declaration; what it leaves out its bases say.

    Raises:
        TypeError: If an option is not described.
    """
    if text is None:  # python -OO
        return None
    clean = inspect.cleandoc(text) + "\n"
    documented = {found[1]: _entries(found[2]) for found in SECTION.finditer(clean)}
    head, tail = _around(clean)
    bases = [kind.described for kind in reversed(cls.__mro__[1:]) if getattr(kind, "described", None)]
    options, inputs = ({k: v for base in bases for k, v in vars(base)[part].items()} for part in ("options", "inputs"))
    options |= documented.get("Args", {})
    if missing := [name for name in cls.options if name not in options]:
        raise TypeError(f"{cls.__name__}: the docstring does not describe {', '.join(missing)} under Args")
    return Described(head, options, inputs | documented.get("Inputs", {}), tail)


def of_module(cls: Any) -> str | None:
    """The docstring of a module: its options, its sources."""
    documented = cls.described
    return documented and _joined(
        documented.head, {name: documented.options[name] for name in cls.options}, "", documented.tail
    )


def of_function(cls: Any) -> str | None:
    """The same for the function: with its tensors, and what the number is a mean over."""
    documented = cls.described
    if documented is None:
        return None
    inputs = {"embeddings": "One row per example.", "labels": LABELS.get(cls.supervision, "")} | documented.inputs
    entries = {name: inputs[name] for name in cls.inputs}
    entries |= {
        name: _of_tensor(cls, name, documented.options[name]) for name in cls.options if name not in cls.of_module
    }
    entries |= {name: inputs[name] for name in cls.keyword_inputs} | {"sides": f"See `{cls.sides.__name__}`."}
    returns = f"Returns:\n    Mean over {cls.divides_by}; 0 if there is none.\n"
    return _joined(documented.head, entries, returns, documented.tail)


def _of_tensor(cls: Any, name: str, documented: str) -> str:
    """What a function takes in the place of the word "learned"."""
    return documented.replace('"learned"', "a tensor that is learned") if name in cls.learnable else documented


def _around(clean: str) -> tuple[str, str]:
    """What stands before the arguments, and behind them."""
    rest = SECTION.sub("", clean)
    mark = re.search(r"^(Raises|References):\n", rest, re.MULTILINE)
    cut = mark.start() if mark else len(rest)
    return rest[:cut].rstrip(), rest[cut:]


def _entries(text: str) -> dict[str, str]:
    """Names and what is said of them."""
    entries = re.split(r"^ {4}(?=\w)", text, flags=re.MULTILINE)[1:]
    return {name.strip(): " ".join(note.split()) for name, _, note in (entry.partition(":") for entry in entries)}


def _joined(head: str, entries: dict[str, str], returns: str, tail: str) -> str:
    listed = [
        textwrap.fill(f"{name}: {note}", 116, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, note in entries.items()
    ]
    parts = [head, "Args:\n" + "\n".join(listed) if listed else "", returns.rstrip(), tail.rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"
