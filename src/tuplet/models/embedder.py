"""An encoder together with all it takes to use it elsewhere: preprocessing, geometry, thresholds."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tuplet.bounds import Count, bounded
from tuplet.checksums import file_sum
from tuplet.data import Columns, Dataset, Manifest
from tuplet.data.dataset import Preprocessing
from tuplet.data.transforms import preprocessing_from_config
from tuplet.errors import CheckpointError, DataError, MissingExtraError, ShapeError, TupletError
from tuplet.models.encoders import build_encoder
from tuplet.storage import read_bytes, read_json, replaced_folder, settle, write_json
from tuplet.types import GeometryName, Side

FORMAT = 2
_CONFIG, _WEIGHTS, _FILES, _PARTNER = "embedder.json", "weights.safetensors", "encoder", "partner"
_COLUMNS = "columns"
_REMEDY = "Save the embedder again, or copy the whole folder again from where it came."
_HASHED: dict[str, type] = {"dim": int, "geometry": str, "encoder": dict, "preprocessing": dict}
_FIELDS: dict[str, type] = {"hash": str, **_HASHED, "thresholds": dict, "verification": dict, "files": dict}


class Embedder(nn.Module):
    """Encoder with its preprocessing, geometry and thresholds.

    Args:
        encoder: Turns preprocessed inputs into rows; its attribute `dim` is their length.
        preprocessing: Turns items into stored inputs (`load`) and these into what the encoder reads (a call).
        encoder_config: `{"name": ..., option: value, ...}`, from which `build_encoder` makes the same network.
        geometry: How two embeddings are compared. Embeddings are returned as the encoder made them, not normalised.
        thresholds: Scores at which two items count as the same, by name.
        partner: Embeds the second side of pairs, where it has an encoder of its own; part of this module.
        columns: How the table that it was trained on was read; other tables are read by the same names, whatever the
            order of their columns. None if it was trained on something else.

    Raises:
        ShapeError: If the length of the embeddings is not known.
    """

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: Preprocessing,
        *,
        encoder_config: Mapping[str, Any],
        geometry: GeometryName = "cosine",
        thresholds: Mapping[str, float] | None = None,
        partner: "Embedder | None" = None,
        columns: Columns | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.preprocessing = preprocessing
        self.encoder_config = dict(encoder_config)
        self.geometry: GeometryName = geometry
        self.thresholds = dict(thresholds or {})
        self.verification: dict[str, Any] = {}  # thresholds by rates of false accepts, see `operating_points`
        dim = getattr(encoder, "dim", encoder_config.get("dim"))
        if not isinstance(dim, int):
            raise ShapeError(
                f"The encoder {type(encoder).__name__} does not say how long its embeddings are.",
                hint="Give it an attribute `dim`, or add `dim` to `encoder_config`.",
                reference="encoder-output",
            )
        self.dim = dim
        self.partner = partner
        self.columns = columns
        if partner is not None and partner.dim != dim:
            raise ShapeError(
                f"Queries are embedded to {dim} numbers, their partners to {partner.dim}.",
                hint="Give both encoders the same `dim`.",
                reference="encoder-output",
            )

    @bounded
    def side(self, side: Side) -> "Embedder":
        """What embeds the items of one side of pairs; without a partner, one embedder serves both."""
        return self if side == "query" or self.partner is None else self.partner

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next((weight.device for weight in self.encoder.parameters()), torch.device("cpu"))

    def forward(self, stored: Any) -> Float[Tensor, "n dim"]:
        """Embeddings of stored inputs that are already on the encoder's device: preprocessing, then encoder."""
        return self.encoder(self.preprocessing(stored))

    @bounded
    def embed(
        self,
        items: Any,
        *,
        side: Side = "query",
        batch_size: Count = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "n dim"]:
        """Embeddings of items, whatever the encoder was trained on.

        Args:
            items: Paths, texts, rows or series (a list, an array or a tensor), a `Manifest`, or a `Dataset`.
            side: Which side of pairs the items are on; of a `Manifest` or a `Dataset` it takes those of that side.
            batch_size: Items in memory at once, at least 1. It changes no result beyond rounding.
            progress: Called with (items done, items in all) after each batch.

        Returns:
            One row per item, in float32, on the CPU, without a graph.

        Raises:
            DataError: If items cannot be read.
        """
        count = len(_sequence(items, side))
        embeddings = torch.empty(count, self.dim)
        done = 0
        for rows in self.stream(items, side=side, batch_size=batch_size):
            embeddings[done : done + len(rows)] = rows
            done += len(rows)
            if progress is not None:
                progress(done, count)
        return embeddings

    @bounded
    def stream(
        self, items: Any, *, side: Side = "query", batch_size: Count = 256
    ) -> Iterator[Float[Tensor, "rows dim"]]:
        """What `embed` returns, batch by batch; items are read when their batch comes."""
        source, embedder = _sequence(items, side), self.side(side)
        for start in range(0, len(source), batch_size):
            part = source[start : start + batch_size]
            if isinstance(part, np.ndarray):
                part = np.require(part, requirements=["C", "W"])  # a copy where torch would complain of the memory
            stored = part if isinstance(items, Dataset) else embedder.preprocessing.load(part)
            with _evaluating(embedder), torch.no_grad():
                rows = embedder(_moved(stored, embedder.device))
            yield rows.float().cpu()

    def content_hash(self) -> str:
        """SHA-256 of what decides embeddings and their scores: weights, encoder, preprocessing, geometry."""
        return _hash(self._config(), self.encoder.state_dict())

    def save(self, folder: Path | str) -> None:
        """Write the embedder to a folder, whole or not at all; an embedder that is there is replaced.

        Raises:
            CheckpointError: If the folder holds other files or cannot be written, or the configuration is no JSON.
        """
        try:
            json.dumps(self._config(), allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise CheckpointError(
                f"The configuration of the embedder cannot be saved: {problem}.",
                hint="Use plain numbers, texts, lists and dictionaries in `encoder_config`.",
                reference="config-not-json",
            ) from problem
        with replaced_folder(folder, owns={_CONFIG, _WEIGHTS, _FILES, _PARTNER}, error=CheckpointError) as new:
            # Copies, because safetensors refuses weights that share memory.
            state = {
                name: value.detach().cpu().contiguous().clone() for name, value in self.encoder.state_dict().items()
            }
            (new / _WEIGHTS).write_bytes(safetensors.torch.save(state))
            if self._save_files is not None:
                self._save_files(new / _FILES)
            if self.partner is not None:
                self.partner.save(new / _PARTNER)
            content = {"hash": _hash(self._config(), state), **self._config(), "thresholds": self.thresholds}
            content["verification"] = self.verification
            write_json(new / _CONFIG, {**content, "files": _sums(new / _FILES)}, version=FORMAT, seal=True)

    @classmethod
    def load(cls, folder: Path | str, *, trust: bool = False) -> "Embedder":
        """Read an embedder that `save` wrote. No code from the folder is run, and nothing is asked of a network.

        Args:
            folder: Where it was saved.
            trust: Import the class that an encoder of the kind `callable` names.

        Returns:
            The embedder in evaluation mode, on the CPU.

        Raises:
            CheckpointError: If files are missing, cut short, of an unknown format, or do not belong together.
            MissingExtraError: If the encoder needs a package that is not installed.
        """
        folder = Path(folder)
        if not any((folder / name).exists() for name in (_CONFIG, _WEIGHTS)):
            words = f"There is no model in {folder}: {_CONFIG} is missing."
            hint = "Name a run that has ended (`tuplet runs` shows them), or the folder of a saved model."
            raise CheckpointError(words, hint=hint, reference="missing-file")
        content = _read_config(folder)
        _check_files(folder / _FILES, content["files"])
        weights = _read_weights(folder / _WEIGHTS)
        found = _hash({name: content[name] for name in (*_HASHED, _PARTNER, _COLUMNS) if name in content}, weights)
        if found != content["hash"]:
            raise CheckpointError(
                f"The files in {folder} do not belong together: hash {found[:8]}, expected {content['hash'][:8]}.",
                hint=_REMEDY,
                reference="damaged-file",
            )
        partner = cls.load(folder / _PARTNER, trust=trust) if _PARTNER in content else None
        if partner is not None and partner.content_hash() != content[_PARTNER]:
            raise CheckpointError(
                f"The partner in {folder / _PARTNER} is not the one that the embedder was saved with.",
                hint=_REMEDY,
                reference="damaged-file",
            )
        embedder = _rebuild(folder, content, partner, trust=trust)
        _fill(embedder.encoder, weights, folder / _WEIGHTS)
        embedder.verification = content["verification"]
        return embedder.eval()

    @property
    def _save_files(self) -> Callable[[Path], None] | None:
        """How the encoder writes what it needs besides weights, if anything."""
        return getattr(self.encoder, "save_files", None)

    def _config(self) -> dict[str, Any]:
        """What is saved besides weights and thresholds."""
        encoder = dict(self.encoder_config)
        if self._save_files is not None:
            encoder["folder"] = _FILES  # the files move along with the embedder
        config = {
            "dim": self.dim,
            "geometry": self.geometry,
            "encoder": encoder,
            "preprocessing": self.preprocessing.to_config(),
        }
        if self.columns is not None:
            config[_COLUMNS] = {key: value for key, value in asdict(self.columns).items() if value is not None}
        return config if self.partner is None else {**config, _PARTNER: self.partner.content_hash()}


def saved_hash(folder: Path | str) -> str:
    """The content hash of an embedder that was saved in `folder`, without reading its weights.

    Raises:
        CheckpointError: If `embedder.json` is missing, damaged or of an unknown format.
    """
    return str(_read_config(Path(folder))["hash"])


def _sequence(items: Any, side: Side) -> Any:
    """Something with a length that can be sliced."""
    if isinstance(items, Dataset | Manifest):
        own, partners = (items.inputs, items.partners) if isinstance(items, Dataset) else (items.items, items.pairs)
        if side == "partner" and partners is None:
            raise DataError(
                "The data has no partners, only one item per example.",
                hint='Add a column `pair`, or leave side="partner" out.',
                reference="missing-labels",
            )
        return own if side == "query" else partners
    if isinstance(items, Tensor):
        return items.numpy(force=True)
    if isinstance(items, list | tuple | np.ndarray):
        return items
    raise DataError(
        f"embed needs a list of items, an array, a Manifest or a Dataset, not {type(items).__name__}.",
        hint="Put a single item into a list: embed([item]).",
        reference="items-not-a-list",
    )


def _moved(stored: Any, device: torch.device) -> Any:
    if isinstance(stored, Tensor):
        return stored.to(device)
    return [value.to(device) if isinstance(value, Tensor) else value for value in stored]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part gets its own mode back, frozen ones too."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _hash(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    settle(folder)
    path = folder / _CONFIG
    content = read_json(path, version=FORMAT, oldest=1, error=CheckpointError, remedy=_REMEDY, seal=True)
    if content["format"] == 1:  # tuplet 0.1 kept no checksums of an encoder's files and no rates of false accepts
        content = {"files": {}, "verification": {}, **content}
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(content.get(name), kind)]
    if not wrong and content["geometry"] not in get_args(GeometryName):
        wrong = ["geometry"]
    if wrong:
        raise CheckpointError(
            f"{path} is damaged: {', '.join(map(repr, wrong))} missing or of the wrong kind.",
            hint=_REMEDY,
            reference="damaged-file",
        )
    return content


def _sums(folder: Path) -> dict[str, str]:
    """Checksums of the files of an encoder, by their places in its folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in files}


def _check_files(folder: Path, expected: Mapping[str, str]) -> None:
    for name, wanted in expected.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing.", hint=_REMEDY, reference="missing-file")
        if file_sum(path) != wanted:
            message = f"{path} is damaged: it was changed after it was saved."
            raise CheckpointError(message, hint=_REMEDY, reference="damaged-file")


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(read_bytes(path, error=CheckpointError, remedy=_REMEDY))
    except safetensors.SafetensorError as problem:
        message = f"{path} is damaged or cut short: {problem}."
        raise CheckpointError(message, hint=_REMEDY, reference="damaged-file") from problem


def _rebuild(folder: Path, content: Mapping[str, Any], partner: Embedder | None, *, trust: bool) -> Embedder:
    config = dict(content["encoder"])
    built_from = {**config, "folder": str(folder / _FILES)} if "folder" in config else config
    try:
        return Embedder(
            build_encoder(built_from, trust=trust),
            preprocessing_from_config(content["preprocessing"]),
            encoder_config=config,
            geometry=content["geometry"],
            thresholds=content["thresholds"],
            partner=partner,
            columns=_columns(content[_COLUMNS], folder) if _COLUMNS in content else None,
        )
    except MissingExtraError:
        raise
    except TupletError as problem:
        message = f"{folder / _CONFIG} cannot be used: {problem.message}"
        raise CheckpointError(message, hint=problem.hint, reference=problem.reference) from problem


def _columns(content: Any, folder: Path) -> Columns:
    """Names that `_config` wrote; a role that it left out is None."""
    kinds = {field.name: field.type for field in fields(Columns)}
    is_right = isinstance(content, dict) and content.keys() <= kinds.keys()
    if not is_right or not all(_is_name(key, value) for key, value in content.items()):
        raise CheckpointError(
            f"{folder / _CONFIG} is damaged: {_COLUMNS!r} does not hold names of columns.",
            hint=_REMEDY,
            reference="damaged-file",
        )
    known: dict[str, Any] = {key: None for key in kinds if key not in {"several", "header"}}
    known |= {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return Columns(**known)


def _is_name(key: str, value: Any) -> bool:
    if key == "header":
        return isinstance(value, bool)
    if key in {"inputs", "targets"}:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    return isinstance(value, str)


def _fill(encoder: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights in, keeping their number format and the encoder's memory layout."""
    for name, own in (*encoder.named_parameters(), *encoder.named_buffers()):
        if name in weights:
            own.data = own.data.to(weights[name].dtype)
    try:
        encoder.load_state_dict(dict(weights))
    except RuntimeError as problem:
        raise CheckpointError(
            f"{path} does not fit the encoder of {_CONFIG}: {problem}",
            hint=_REMEDY,
            reference="damaged-file",
        ) from problem
