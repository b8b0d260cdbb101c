"""Docstrings of declared losses: written once, on the class, and completed for the module and for the function."""

import inspect
import re
import textwrap
from typing import Any

ARGS = re.compile(r"^Args:\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)

OF_MODULE = {
    "num_classes": "How many classes there are.",
    "dim": "Length of an embedding.",
    "seed": "Of the first proxies.",
    "queue": "Latest batches as further references.",
    "processes": "Who computes the loss together.",
}
OWNED = {"proxies": "One vector per class; its length does not count."}
LABELS = {
    "class": "Class ids, or multi-hot rows; without them row i of `references` is the positive of row i.",
    "pair": "Class ids or pair ids; without them row i of `references` is the positive of row i.",
    "target": "Class ids, 0 to classes - 1; -1 leaves a row out.",
}


def of_module(cls: Any, text: str | None) -> str | None:
    """The docstring of a declaration, with the arguments that all have.

    Raises:
        TypeError: If an option is not described.
    """
    if text is None:  # python -OO
        return None
    head, told, tail = _parts(text)
    if missing := [name for name in cls.options if name not in told and name not in OF_MODULE]:
        raise TypeError(f"{cls.__name__}: the docstring does not describe {', '.join(missing)} under Args")
    entries = {name: told.get(name, OF_MODULE.get(name, "")) for name in cls.options}
    return _joined(head, entries, "", tail)


def of_function(cls: Any) -> str | None:
    """The same for the function: with embeddings and labels, and what the number is a mean over."""
    if cls.__doc__ is None:
        return None
    head, told, tail = _parts(cls.__doc__)
    entries = {"embeddings": "One row per example."}
    entries |= {name: OWNED.get(name, "Owned by the module.") for name in cls.owns}
    entries["labels"] = LABELS["target" if cls.owns else cls.supervision]
    options = {name: option for name, option in cls.options.items() if not option.by_keyword}
    entries |= {name: _of_tensor(cls, name, told[name]) for name in options if name not in cls.sizes}
    entries["sides"] = f"See `{cls.sides.__name__}`."
    returns = f"Returns:\n    Mean over {cls.divides_by}; 0 if there is none.\n"
    return _joined(head, entries, returns, tail)


def _of_tensor(cls: Any, name: str, told: str) -> str:
    """What a function takes in the place of the word "learned"."""
    return told.replace('"learned"', "a tensor that is learned") if name in cls.learnable else told


def _parts(text: str) -> tuple[str, dict[str, str], str]:
    """What comes before the arguments, the arguments, what comes after."""
    clean = inspect.cleandoc(text) + "\n"
    found = ARGS.search(clean)
    if not found:
        head, mark, tail = clean.partition("References:\n")
        return head.rstrip(), {}, mark + tail
    entries = re.split(r"^ {4}(?=\w)", found[1], flags=re.MULTILINE)[1:]
    told = {name.strip(): " ".join(note.split()) for name, _, note in (entry.partition(":") for entry in entries)}
    return clean[: found.start()].rstrip(), told, clean[found.end() :].lstrip("\n")


def _joined(head: str, entries: dict[str, str], returns: str, tail: str) -> str:
    listed = [
        textwrap.fill(f"{name}: {note}", 116, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, note in entries.items()
    ]
    parts = [head, "Args:\n" + "\n".join(listed) if listed else "", returns.rstrip(), tail.rstrip()]
    return "\n\n".join(part for part in parts if part) + "\n"
