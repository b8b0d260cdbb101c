"""Names of pretrained models, and where their files lie: a folder, or the cache of Hugging Face.

Nothing here asks a network, except `download`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tuplet.errors import CheckpointError, MissingExtraError, MissingFileError, RecipeError
from tuplet.models.pretrained import LARGEST

Format = Literal["transformers", "timm", "sentence-transformers"]
SHORT: Mapping[str, str] = {
    "dinov2-small": "facebook/dinov2-small",
    "dinov2-base": "facebook/dinov2-base",
    "dinov2-large": "facebook/dinov2-large",
    "dinov2-giant": "facebook/dinov2-giant",
    "dinov3-small": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "dinov3-base": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov3-large": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "vit-base": "google/vit-base-patch16-224-in21k",
    "clip-base": "openai/clip-vit-base-patch32",
    "clip-large": "openai/clip-vit-large-patch14",
    "siglip-base": "google/siglip-base-patch16-224",
    "resnet-50": "microsoft/resnet-50",
    "convnext-tiny": "facebook/convnext-tiny-224",
    "bert-base": "google-bert/bert-base-uncased",
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
    "wav2vec2-base": "facebook/wav2vec2-base",
    "hubert-base": "facebook/hubert-base-ls960",
    "wavlm-base": "microsoft/wavlm-base",
}
"""Short names, and what the hub calls these models."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""Files of which a folder of weights holds one."""
BESIDE = "weights-beside.json"
"""Marks a folder whose weights are those of the saved embedder around it."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FETCHED = ("*.json", "*.txt", "*.model", "*.safetensors")
_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters in the order of the numbers by which image processors name them."""


def named_model(name: str, folder: Path) -> dict[str, Any] | None:
    """The options of the encoder `pretrained` for a short name, a name of the hub, or a folder; None for another name.

    Args:
        name: What stands as `model.encoder`.
        folder: Where relative paths start.
    """
    path = folder / Path(name).expanduser()
    if "\0" not in name and (name.startswith((".", "/", "~")) or _has_config(path)):
        return {"folder": str(path.resolve())}
    if name in SHORT:
        return {"model": SHORT[name]}
    return {"model": name} if _HUB_NAME.fullmatch(name) else None


def locate(folder: str | None, model: str | None) -> Path:
    """The folder with the files of a model.

    Args:
        folder: Where it is, if that is known.
        model: Else its name on the hub, or a short name of that; the cache is looked at.

    Raises:
        RecipeError: If neither is given, or the cache does not hold the model.
        MissingFileError: If there is no such folder.
    """
    if folder:
        if not _has_config(Path(folder)):
            raise MissingFileError(
                f"{folder} is not the folder of a model: it holds no config.json.",
                hint="Name the folder that `save_pretrained` wrote, or a model by its name: "
                "--set model.encoder=dinov2-small",
                reference="missing-file",
            )
        return Path(folder)
    if not model:
        raise RecipeError(
            "The encoder 'pretrained' names neither a `model` nor a `folder`.",
            hint="Use --set model.encoder=dinov2-small, or name a folder: --set model.encoder=./my-model",
            reference="model-not-cached",
        )
    name = SHORT.get(model, model)
    hub = _hub(name)
    for file in ("config.json", "modules.json"):
        found = hub.try_to_load_from_cache(name, file) if _HUB_NAME.fullmatch(name) else None
        if isinstance(found, str):
            return Path(found).parent
    raise RecipeError(
        f"The cache of Hugging Face models does not hold {name}, and nothing is downloaded by itself.",
        hint="Add --download to fetch it once, or name a folder that holds it: --set model.encoder=./FOLDER",
        reference="model-not-cached",
    )


def download(model: str) -> Path:
    """Fetch a model into the cache of Hugging Face, where `locate` finds it: the one function that asks a network.

    Args:
        model: Its name on the hub, or a short name.

    Returns:
        Its folder in the cache. Programs and pickles are not fetched.

    Raises:
        CheckpointError: If it cannot be fetched.
        MissingExtraError: If the package that fetches is not installed.
    """
    name = SHORT.get(model, model)
    hub = _hub(name)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=[*_FETCHED]))
    except (OSError, ValueError, RuntimeError) as problem:  # of the hub, of the network, of names
        raise CheckpointError(
            f"{name} cannot be fetched: {str(problem).strip().splitlines()[0]}",
            hint="Check the name, the connection, and whether the model asks for a login (hf auth login).",
            reference="download-failed",
        ) from problem


def format_of(place: Path) -> Format:
    """Which library wrote the folder of a model."""
    if (place / "modules.json").is_file():
        return "sentence-transformers"
    config = read_config(place)
    if "architecture" in config and "model_type" not in config:
        return "timm"
    return "transformers"


def read_config(place: Path, name: str = "config.json") -> dict[str, Any]:
    """A configuration of the folder of a model; empty if there is none.

    Raises:
        CheckpointError: If it is damaged.
    """
    path = place / name
    try:
        if not path.is_file():
            return {}
        content = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return content
    raise CheckpointError(
        f"{path} is damaged: it is not a JSON object.",
        hint="Copy the whole folder again from where it came.",
        reference="damaged-file",
    )


def image_options(place: Path) -> dict[str, Any]:
    """Options of `ImagePreprocessing` that do what the image processor of a model does; empty if it has none."""
    if format_of(place) == "timm":
        return _of_timm(read_config(place).get("pretrained_cfg", {}))
    known = read_config(place, "preprocessor_config.json") or read_config(place, "processor_config.json")
    known = known.get("image_processor", known)
    if not isinstance(known, dict) or "image_mean" not in known:
        return {}
    resized, cropped = _sides(known.get("size")), _sides(known.get("crop_size"))
    if known.get("crop_pct") and known.get("size", {}).get("shortest_edge", 384) < 384:  # as ConvNeXt does
        resized, cropped = round(resized / known["crop_pct"]), resized
    is_cropped = bool(cropped) and known.get("do_center_crop", known.get("crop_pct") is not None)
    resample = known.get("resample", 2)
    return {
        "size": cropped if is_cropped else resized,
        "fit_by": "crop" if is_cropped or "shortest_edge" in _mapping(known.get("size")) else "stretch",
        "resize": resized if is_cropped else 0,
        "resample": _PILLOW[resample] if resample in range(len(_PILLOW)) else "bilinear",
        **_colours(known["image_mean"], known["image_std"], normalised=known.get("do_normalize", True)),
    }


def sound_options(place: Path) -> dict[str, Any]:
    """Options of `SeriesPreprocessing` that do what the feature extractor of a model of waves does."""
    known = read_config(place, "preprocessor_config.json")
    is_normalised = bool(known.get("do_normalize", True))
    rate = int(known.get("sampling_rate", 16000))
    return {"channels": 1, "rate": rate, "mels": 0, "per_series": is_normalised, "fixed": not is_normalised}


def _of_timm(known: Mapping[str, Any]) -> dict[str, Any]:
    size = int(known.get("input_size", (3, 224, 224))[-1])
    share, filtered = float(known.get("crop_pct", 1.0)), str(known.get("interpolation", "bicubic"))
    return {
        "size": size,
        "fit_by": "crop",
        "resize": int(size / share),
        "resample": filtered if filtered in _PILLOW else "bicubic",
        **_colours(known.get("mean", (0.5,)), known.get("std", (0.5,)), normalised=True),
    }


def _colours(mean: Any, std: Any, *, normalised: bool) -> dict[str, Any]:
    """The statistics of the images that the model was trained on, which stay as they are."""
    if not normalised:
        return {"mean": (0.0,), "std": (1.0,), "fixed": True}
    return {"mean": tuple(map(float, mean)), "std": tuple(map(float, std)), "fixed": True}


def _mapping(size: Any) -> Mapping[str, Any]:
    return size if isinstance(size, Mapping) else {"height": size}


def _sides(size: Any) -> int:
    """The shorter side that a size of an image processor asks for; 0 if it asks for none."""
    known = _mapping(size)
    return int(known.get("shortest_edge") or known.get("height") or 0)


def _has_config(path: Path) -> bool:
    return (path / "config.json").is_file() or (path / "modules.json").is_file()


def _hub(name: str) -> Any:
    """The package that knows the cache."""
    try:
        import huggingface_hub  # noqa: PLC0415  an optional part
    except ImportError as problem:
        raise MissingExtraError(
            f"The model {name} is looked up with the package huggingface_hub, which is not installed.",
            extra="models",
        ) from problem
    return huggingface_hub
