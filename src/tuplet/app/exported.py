"""A model as a folder that is used without tuplet: network, facts, and the program that runs them."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tuplet.app.standalone import Network, program
from tuplet.data.images import EIGHT_BITS
from tuplet.data.numbers import is_wide
from tuplet.errors import CheckpointError, DataError
from tuplet.models import Embedder
from tuplet.models.export import export
from tuplet.models.text import SentenceTransformersFolder
from tuplet.storage import replaced_folder, write_json

Target = Literal["onnx", "torch", "safetensors", "sentence-transformers", "huggingface"]

FORMAT = 1
_NETWORKS = {"onnx": "model.onnx", "torch": "model.pt2", "safetensors": "model.safetensors"}
_OWNS = {*_NETWORKS.values(), "model.py", "model.json", "embed.py"}
_CLOSE = 1e-5
"""Of the largest coordinate: so far the program's embeddings may be from the model's."""
_CHECKED = 64
"""Images, at most, that the program is run on."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        files: Their names.
        difference: Largest difference of a coordinate from the model's.
        checked: How many real items the program that goes along was run on.
    """

    files: list[str]
    difference: float
    checked: int


def export_folder(
    embedder: Embedder,
    folder: Path,
    target: Target,
    items: Sequence[str | Path] = (),
    *,
    unnormalised: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write a model for use without tuplet, run what was written, and compare; nothing is kept if it differs.

    Args:
        embedder: The model.
        folder: A new folder, or one that an earlier export wrote.
        target: "onnx", "torch" and "safetensors" write one network with its preprocessing, `model.json` with geometry,
            thresholds and the form of inputs, and `embed.py`, which runs it; "safetensors" are the weights alone, read
            by the network in `model.py`. "sentence-transformers" and "huggingface" write a model
            of text in the form of those libraries.
        items: Real items: images or folders of them, or tables and arrays of rows. `embed.py` is run on them, or on
            the first 64 images, in a process of its own.
        unnormalised: Leave embeddings of a cosine model as long as they are.
        progress: Is reported what is done next.

    Raises:
        CheckpointError: If the model has no such form, or computes something else there.
        DataError: If items are of another kind.
    """
    normalised = embedder.geometry == "cosine" and not unnormalised
    match target:
        case "sentence-transformers" | "huggingface":
            return _export_text(embedder, folder, target, [str(item) for item in items], normalised=normalised)
    kind = embedder.preprocessing.kind
    if items and kind not in ("image", "vector"):
        raise DataError(
            f"The model embeds items of the kind {kind}; an exported one reads what its encoder reads.",
            hint="Leave the items out.",
            reference="export-input",
        )
    with replaced_folder(folder, owns=_OWNS, error=CheckpointError) as new:
        progress(f"writing {_NETWORKS[target]} and comparing it with the model")
        difference = export(embedder, new / _NETWORKS[target], normalised=normalised)
        facts = _facts(embedder, normalised=normalised)
        write_json(new / "model.json", facts, version=FORMAT)
        if kind in ("image", "vector"):
            (new / "embed.py").write_text(_program(facts, target), encoding="utf-8")
        checked = 0
        if items:
            progress("running embed.py on your items")
            checked, apart = _compared(embedder, new, list(map(str, items)), normalised=normalised)
            difference = max(difference, apart)
        return Exported(sorted(path.name for path in new.iterdir()), difference, checked)


def _facts(embedder: Embedder, *, normalised: bool) -> dict[str, Any]:
    """What is to be known to use the network."""
    preprocessing: dict[str, Any] = embedder.preprocessing.to_config()
    facts: dict[str, Any] = {"kind": embedder.preprocessing.kind, "dim": embedder.dim}
    facts |= {"geometry": embedder.geometry, "normalised": normalised, "thresholds": embedder.thresholds}
    if facts["kind"] == "image":
        resize = preprocessing.get("resize", 0)
        facts |= {name: preprocessing[name] for name in ("size", "channels", "fit_by")} | {"resize": resize}
        facts |= {"mode": "L" if facts["channels"] == 1 else "RGB", "short": max(facts["size"], resize)}
        facts["resample"] = preprocessing.get("resample", "bilinear").upper()
        facts["levels"] = list(preprocessing["levels"] or EIGHT_BITS)
    if facts["kind"] == "vector":
        mean, scale = preprocessing["mean"], preprocessing["scale"]
        facts["dtype"] = "float64" if mean and scale and is_wide(mean, scale) else "float32"
        facts["columns"] = list(embedder.columns.inputs or ()) if embedder.columns is not None else []
    return facts


def _program(facts: dict[str, Any], network: Network) -> str:
    """What embeds items with the network of a folder, and nothing that this model does not need."""
    if facts["kind"] == "vector":
        return program("tables" if facts["columns"] else "arrays", network)
    return program("images", network, "middle" if facts["resize"] and facts["fit_by"] == "crop" else facts["fit_by"])


def _compared(embedder: Embedder, folder: Path, items: Sequence[str], *, normalised: bool) -> tuple[int, float]:
    """Run the program that goes along on real items: how many of them, and how far it is from the model."""
    from tuplet.app.queries import read_queries  # only where there is something to read

    given, _, _ = read_queries(embedder, items)
    given = given[:_CHECKED] if embedder.preprocessing.kind == "image" else given
    expected = embedder.embed(given)
    expected = normalize(expected, dim=1) if normalised else expected
    with TemporaryDirectory() as place:
        found = _run(folder, _typed(embedder, items, given, Path(place)))
    apart = float((found - expected).abs().max()) if found.shape == expected.shape else np.inf
    if not apart <= _CLOSE * max(1.0, float(expected.abs().max())):
        raise CheckpointError(
            f"The exported program computes other embeddings: they differ by {apart:.2g}.",
            hint="Export to the other format.",
            reference="export-differs",
        )
    return len(found), apart


def _typed(embedder: Embedder, items: Sequence[str], given: Any, place: Path) -> list[str]:
    """What the program is to read: images one by one; tables as they are, or an array of their rows."""
    if embedder.preprocessing.kind == "image":
        return list(map(str, given))
    if all(item.endswith((".csv", ".npy")) for item in items):
        return list(items)
    np.save(place / "rows.npy", given)
    return [str(place / "rows.npy")]


def _run(folder: Path, typed: list[str]) -> Tensor:
    """The program in a process of its own: what it prints, (n, dim)."""
    command = [sys.executable, "-I", str(folder / "embed.py"), *typed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # written here
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise CheckpointError(
            f"The exported program cannot read these items, which the model can: {lines[-1]}.",
            hint="Give rows as a .csv whose cells are separated by commas, or as .npy; or leave the items out.",
            reference="export-differs",
        )
    return torch.tensor([json.loads(line) for line in done.stdout.splitlines()])


def _export_text(embedder: Embedder, folder: Path, target: Target, texts: list[str], *, normalised: bool) -> Exported:
    """A model of text in the form of the library that it came from."""
    encoder = embedder.encoder
    if not isinstance(encoder, SentenceTransformersFolder):
        raise CheckpointError(
            f"A model with the encoder {embedder.encoder_config.get('name')!r} has no form of {target}.",
            hint="Export it with --to onnx or --to torch.",
            reference="export-format",
        )
    from sentence_transformers import SentenceTransformer  # an optional part, there if the encoder is
    from sentence_transformers.models import Normalize  # as above

    texts = texts or ["a text", "another text of a few words"]
    with replaced_folder(folder, owns=set(), error=CheckpointError) as new:
        modules = [*encoder.model.children(), *([Normalize()] if normalised else [])]
        if target == "huggingface":
            encoder.model[0].save(str(new))
            loaded = None
        else:
            SentenceTransformer(modules=modules, device="cpu").save(str(new))
            loaded = SentenceTransformer(str(new), device="cpu", local_files_only=True)
        apart = 0.0
        if loaded is not None:
            expected = embedder.embed(texts)
            expected = normalize(expected, dim=1) if normalised else expected
            apart = float((torch.as_tensor(loaded.encode(texts)) - expected).abs().max())
            if not apart <= _CLOSE * max(1.0, float(expected.abs().max())):
                raise CheckpointError(
                    f"The exported model computes other embeddings: they differ by {apart:.2g}.",
                    hint="Look at the versions of sentence-transformers that wrote and read it.",
                    reference="export-differs",
                )
        return Exported(sorted(path.name for path in new.iterdir()), apart, len(texts) if loaded else 0)
