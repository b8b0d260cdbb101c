"""Embedders as one file that runs without tuplet."""

import copy
import logging
import runpy
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.nn import functional

from tuplet.data import WordPreprocessing
from tuplet.errors import CheckpointError, DataError, MissingExtraError
from tuplet.models.embedder import Embedder
from tuplet.models.word2vec import save_word2vec, word_vectors
from tuplet.seeding import derive
from tuplet.storage import replaced_file

_TOLERANCE = 1e-4  # of the largest coordinate
_CHECKED = (1, 2, 5)  # batch sizes
_SOURCE = '''"""The traced network: operators of torch that read the tensors of a file of weights by their names."""

import torch
from torch import device, inf, nan


def embed(weights, inputs):
    """Embeddings (n, dim) of inputs (n, ...); `weights` is what `safetensors.torch.load_file` reads."""
    return network(**weights, {given}=inputs)[0]


{code}
'''


def export(embedder: Embedder, path: Path | str, *, example: Any = None, normalised: bool = False) -> float:
    """Write an embedder for use elsewhere, reload it and compare outputs. Nothing is written if they differ.

    Images go in as uint8 `(n, channels, size, size)` and rows as float32 `(n, dim)`, before preprocessing, which is
    part of the file. Series and hashed texts go in as the encoder reads them. The number of inputs is free.

    Args:
        embedder: What to write.
        path: `NAME.pt2` for `torch.export`, `NAME.onnx` for ONNX (the extra `export`); `NAME.safetensors` for the
            weights, with the network beside it as `NAME.py`, operators of torch that read them; of word vectors also
            `NAME.txt` and `NAME.bin`, the formats of word2vec.
        example: Some items as for `Embedder.embed`; needed where the shape of an input is not known from the encoder's
            options.
        normalised: Scale embeddings to length one, in the file.

    Returns:
        Largest absolute difference of a coordinate between the embedder and the reloaded file.

    Raises:
        CheckpointError: If the suffix is unknown, the file cannot be written, or its outputs differ.
        DataError: If an example is needed, or the encoder reads something else than tensors.
        MissingExtraError: If ONNX is asked for and not installed.
    """
    if isinstance(embedder.preprocessing, WordPreprocessing) and Path(path).suffix in (".txt", ".bin"):
        save_word2vec(path, *word_vectors(embedder))
        return 0.0
    writers = {".pt2": _write_pt2, ".onnx": _write_onnx, ".safetensors": _write_weights}
    suffix = Path(path).suffix
    if suffix not in writers:
        raise CheckpointError(
            f"{path} ends in {suffix!r}, which is not an export format.",
            hint=f"End the name in {' or '.join(writers)}.",
            reference="export-format",
        )
    inputs = _inputs(embedder, example)
    whole = embedder.preprocessing.kind in ("image", "vector")
    network: nn.Module = copy.deepcopy(embedder if whole else embedder.encoder).cpu().eval()
    network = _Normalised(network).eval() if normalised else network
    for weight in network.parameters():
        weight.data = weight.data.contiguous()  # torch.export cannot save another memory order
    with torch.no_grad(), replaced_file(path, error=CheckpointError) as new, ExitStack() as beside:
        write: Any = writers[suffix]
        if write is _write_weights:
            source = beside.enter_context(replaced_file(Path(path).with_suffix(".py"), error=CheckpointError))
            write = partial(write, source=source)
        with warnings.catch_warnings(), _quiet("torch.onnx"), redirect_stdout(StringIO()):  # it prints, too
            warnings.simplefilter("ignore")  # torch warns of its own parts; what counts is compared below
            run = write(network, inputs[:2], new)
        outputs = [(network(inputs[:count]), run(inputs[:count])) for count in _CHECKED]
        difference = max(float((ours - theirs).abs().max()) for ours, theirs in outputs)
        if not difference <= _TOLERANCE * max(float(ours.abs().max()) for ours, _ in outputs):
            raise CheckpointError(
                f"The exported file computes other embeddings: they differ by {difference:.2g}.",
                hint="Export to the other format, or simplify the encoder.",
                reference="export-differs",
            )
    return difference


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Errors only of a logger."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Normalised(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.normalize(self.network(inputs), dim=1)


def _traced(network: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(network, (inputs,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


def _write_pt2(network: nn.Module, inputs: Tensor, path: Path) -> Any:
    torch.export.save(_traced(network, inputs), path)
    return torch.export.load(path).module()


def _write_weights(network: nn.Module, inputs: Tensor, path: Path, *, source: Path) -> Any:
    """Named tensors, and the traced network as a function of them in operators of torch."""
    program = _traced(network, inputs)
    specs, kept = program.graph_signature.input_specs, {**program.state_dict, **program.constants}
    read = {spec.arg.name: kept[spec.target] for spec in specs if spec.kind is not InputKind.USER_INPUT}
    save_file(
        {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in read.items()}, path
    )
    [given] = program.graph_signature.user_inputs
    code = program.graph_module.code.replace("def forward(self, ", "def network(").strip()
    source.write_text(_SOURCE.format(code=code, given=given), encoding="utf-8")
    embed = runpy.run_path(str(source))["embed"]
    return lambda inputs: embed(load_file(path), inputs)


def _write_onnx(network: nn.Module, inputs: Tensor, path: Path) -> Any:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"Export to ONNX needs {', '.join(missing)}, not installed here.",
            extra="export",
        )
    import onnxruntime  # noqa: PLC0415  # optional

    torch.onnx.export(
        network,
        (inputs,),
        path,
        dynamo=True,
        input_names=["inputs"],
        output_names=["embeddings"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda given: torch.from_numpy(np.asarray(session.run(None, {"inputs": given.numpy()})[0]))


def _inputs(embedder: Embedder, example: Any) -> Tensor:
    """Inputs to trace and to compare with, as many as the largest checked batch."""
    count = max(_CHECKED)
    if example is not None:
        stored = embedder.preprocessing.load([example[at % len(example)] for at in range(count)])
    else:
        stored = _made_up(embedder, count)
    if embedder.preprocessing.kind not in ("image", "vector"):
        stored = embedder.preprocessing(stored)
    if not isinstance(stored, Tensor):
        raise DataError(
            "This encoder reads texts, not tensors, and cannot be exported.",
            hint="Export the model inside it with its own library.",
            reference="export-input",
        )
    return stored.cpu()


def _made_up(embedder: Embedder, count: int) -> Any:
    options = {**embedder.preprocessing.to_config(), **embedder.encoder_config}
    noise = derive(0, "export")
    match options:
        case {"kind": "image", "channels": channels, "size": size}:
            return torch.randint(0, 256, (count, channels, size, size), generator=noise, dtype=torch.uint8)
        case {"kind": "vector", "in_dim": columns, "mean": mean, "scale": scale}:
            rows = torch.randn(count, columns, generator=noise, dtype=torch.float64)
            rows = rows * torch.tensor(scale or 1.0) + torch.tensor(mean or 0.0, dtype=torch.float64)
            return embedder.preprocessing.load(rows.numpy())  # in single precision, unless it would lose something
        case {"kind": "series", "channels": channels, "length": length} if length:
            return torch.randn(count, channels, length, generator=noise)
        case {"kind": "text", "hashed": True, "buckets": buckets}:
            return [torch.randint(1, buckets, (32,), generator=noise) for _ in range(count)]
        case {"kind": "text"}:
            return ["text"]
    raise DataError(
        f"The shape of an input of {options.get('name')!r} is not known.",
        hint="Give some items: export(embedder, path, example=items).",
        reference="export-input",
    )
