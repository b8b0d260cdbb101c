"""What libraries of pretrained models read from a folder: nothing from a network, no code, weights from safetensors."""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch

from tuplet.data import Kind
from tuplet.errors import CheckpointError, MissingExtraError, MissingFileError
from tuplet.models.hub import BESIDE, WEIGHTS, read_config

_UNREADABLE = (
    safetensors.SafetensorError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    ImportError,
)
HINT = "Copy the whole folder again from where it came."


def require_library() -> Any:
    """The package transformers.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import transformers  # noqa: PLC0415  an optional part
    except ImportError as problem:
        raise MissingExtraError(
            "The encoder 'pretrained' needs the package transformers, which is not installed.", extra="models"
        ) from problem
    return transformers


def class_of(library: Any, config: Any, kind: Kind) -> tuple[Any, Any]:
    """The class of a model and its configuration; of one that reads images and texts, those of one half."""
    if hasattr(config, "vision_config") and hasattr(config, "text_config") and kind in ("image", "text"):
        family = (getattr(config, "architectures", None) or ["CLIPModel"])[0].removesuffix("Model")
        half, own = ("Vision", config.vision_config) if kind == "image" else ("Text", config.text_config)
        own.projection_dim = getattr(config, "projection_dim", None)
        for name in (f"{family}{half}ModelWithProjection", f"{family}{half}Model"):
            if hasattr(library, name):
                return getattr(library, name), own
    texts = library.models.auto.modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    return library.AutoModelForTextEncoding if config.model_type in texts else library.AutoModel, config


def open_model(library: Any, constructor: Any, config: Any, place: Path) -> Any:
    """The model with its weights; with any, where those of the embedder come afterwards."""
    if beside := read_config(place, BESIDE):
        found: Any = getattr(library, str(beside.get("class")), None)
        if not (inspect.isclass(found) and issubclass(found, library.PreTrainedModel)):
            raise ValueError(f"{BESIDE} names no model of transformers")
        made: Any = found
        return made(config)
    weights_in(place)
    model, found = constructor.from_pretrained(
        str(place),
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    model.missing = frozenset(found["missing_keys"])
    return model


def weights_in(place: Path) -> Path:
    """The file of the weights, or of their index."""
    found = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
    if found is None:
        raise MissingFileError(
            f"{place} holds no weights in safetensors: {WEIGHTS[0]} is missing.",
            hint="Load the model with its own library, and save it again with `save_pretrained`.",
            reference="missing-file",
        )
    return found


def open_tokenizer(library: Any, place: Path) -> Any:
    """The tokenizer of a model, which fills short texts up."""
    found = library.AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


@contextmanager
def understood(place: Path) -> Iterator[None]:
    """What a library says of a folder that it cannot read, as one of our errors."""
    try:
        yield
    except MissingFileError:
        raise
    except _UNREADABLE as problem:
        said = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
        raise CheckpointError(
            f"{place} cannot be read as a model: {said}",
            hint=f"{HINT} Nothing is downloaded.",
            reference="damaged-file",
        ) from problem


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Without progress, notes and warnings of a library while it loads."""
    say, before = library.utils.logging, library.utils.logging.get_verbosity()
    bars = say.is_progress_bar_enabled()
    say.set_verbosity(logging.CRITICAL)
    say.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        say.set_verbosity(before)
        if bars:
            say.enable_progress_bar()
