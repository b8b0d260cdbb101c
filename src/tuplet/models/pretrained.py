"""A folder of the sentence-transformers format is data: what would run code, or lead elsewhere, is refused unread."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuplet.errors import CheckpointError

_OWN = ("torch.", "sentence_transformers.", "transformers.")
"""Packages whose classes such a folder may name."""
_CLASSES = ("type", "activation_function", "tokenizer_class", "module_class")
_CODE = (".py", ".so", ".pyd", ".pyc")
_PICKLES = ("pytorch_model*.bin", "*.pkl", "*.pickle", "*.joblib")
LARGEST = 10_000_000
"""Bytes of a configuration; longer files are vocabularies."""


def refuse_code(folder: Path) -> None:
    """Look through a folder before any library does.

    Args:
        folder: Of the sentence-transformers format.

    Raises:
        CheckpointError: If it is no such folder, or holds or names code, or names a place outside of itself.
    """
    if not (folder / "modules.json").is_file():
        raise CheckpointError(
            f"{folder} is not a folder of a sentence-transformers model: modules.json is missing.",
            hint="Name the folder that SentenceTransformer(...).save(folder) wrote; nothing is downloaded.",
            reference="missing-file",
        )
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.suffix.lower() in _CODE:
            raise _refusal(folder, f"it holds the program {name}")
        if any(file.match(pattern) for pattern in _PICKLES):
            raise _refusal(folder, f"{name} is a pickle, which may hold a program")
        if not (file.is_file() or file.is_dir()):
            raise _refusal(folder, f"{name} is neither a file nor a folder")
        if file.suffix.lower() == ".json" and file.stat().st_size <= LARGEST:
            _look_at(folder, file)


def _look_at(folder: Path, file: Path) -> None:
    name = file.relative_to(folder)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as problem:
        message = f"{file} is damaged: {problem}."
        hint = "Copy the folder again from where it came."
        raise CheckpointError(message, hint=hint, reference="damaged-file") from problem
    for key, value in _entries(content):
        if key in ("auto_map", "custom_pipelines"):
            raise _refusal(folder, f"{name} names programs of its own ({key})")
        is_class = key in _CLASSES and "." in value if isinstance(value, str) else False
        if is_class and not value.startswith(_OWN):
            raise _refusal(folder, f"{name} names {value}, which is of neither torch nor transformers")
        if key == "path" and isinstance(value, str) and not _is_within(folder, value):
            raise _refusal(folder, f"{name} leads to {value}, out of the folder")


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at every depth; the values of `types` are those of `type`."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield str(key), value
            if key == "types" and isinstance(value, Mapping):
                yield from (("type", one) for one in value.values())
            yield from _entries(value)
    elif isinstance(content, list):
        for value in content:
            yield from _entries(value)


def _is_within(folder: Path, path: str) -> bool:
    return "\0" not in path and (folder / path).resolve().is_relative_to(folder.resolve())


def _refusal(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} is not loaded: {why}.",
        hint="Only weights in safetensors and modules of sentence-transformers itself are read. To use a model with "
        "code of its own, write an nn.Module that loads it, and name that as the encoder `callable`.",
        reference="code-in-folder",
    )
