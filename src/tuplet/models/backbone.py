"""Pretrained models of images, texts and sounds as encoders: what a library knows, under the rules of this one.

A model is read from a folder, never from a network, its weights from safetensors, and no code of its folder is run. The
saved embedder keeps the architecture, the tokens and the weights, so it loads where the folder is not.
"""

import inspect
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tuplet.bounds import Count, Number
from tuplet.data import Kind
from tuplet.errors import CheckpointError, MissingExtraError, RecipeError
from tuplet.models.encoders import registry, require_features
from tuplet.models.hub import BESIDE, format_of, locate, read_config
from tuplet.models.loading import (
    HINT,
    class_of,
    open_model,
    open_tokenizer,
    quiet,
    require_library,
    understood,
    weights_in,
)
from tuplet.models.series import true_lengths
from tuplet.models.text import SentenceTransformersFolder
from tuplet.storage import write_json

Pool = Literal["auto", "cls", "mean", "last", "pooler"]
READS: dict[str, Kind] = {"pixel_values": "image", "input_ids": "text", "input_values": "series"}
"""The kind of data that a model reads, by what transformers calls its input."""


@registry.register("pretrained")
class Pretrained(nn.Module):
    """A pretrained model of images, texts or sounds, by its name in the cache of Hugging Face or by its folder.

    `model.encoder = "dinov2-small"`, `"owner/name"` and `"./folder"` are short for it. Nothing is downloaded, and no
    code of the folder is run.

    Args:
        folder: Folder of transformers, timm or sentence-transformers; of a saved embedder its own.
        model: Name on the hub of a model that the cache holds, where there is no folder.
        dim: Length of an embedding, where there is a head.
        kind: What an input is.
        size: Height and width of an image in pixels. Position embeddings of another size are interpolated.
        pool: What of the outputs is the embedding: that of the first token, their mean, that of the last token, or
            what the model itself makes of them; "auto" takes the first token where images have one, else the model's
            own, and the mean of texts and sounds.
        head: "linear" maps the output to `model.dim` numbers; "none" leaves it as long as it is.
        max_tokens: Longest text in tokens; 0 for what the model was trained on.
    """

    reads_texts: ClassVar[bool] = True
    """Texts come as they are, not as tokens."""

    def __init__(
        self,
        folder: str | None = None,
        *,
        model: str | None = None,
        dim: Count = 128,
        kind: Kind = "image",
        size: Count = 224,
        pool: Pool = "auto",
        head: Literal["none", "linear"] = "none",
        max_tokens: Number = 0,
    ) -> None:
        super().__init__()
        place = locate(folder, model)
        self.kind = kind
        known = format_of(place)
        if known != "transformers" and pool != "auto":
            raise RecipeError(
                f"pool = {pool!r} is for a model of transformers; {place.name} is one of {known}, which pools itself.",
                hint="Leave `pool` out.",
                reference="refused-option",
            )
        self.backbone: Any
        match known:
            case "sentence-transformers":
                self.backbone = SentenceTransformersFolder(str(place))
            case "timm":
                self.backbone = TimmBackbone(place)
            case "transformers":
                self.backbone = TransformersBackbone(place, kind, pool=pool, max_tokens=max_tokens)
        reads = "text" if known == "sentence-transformers" else getattr(self.backbone, "kind", "image")
        if kind != reads:
            raise _wrong_kind(model or str(folder), reads, kind)
        width = _probed(self.backbone, kind, size)
        self.head = nn.Linear(width, dim) if head == "linear" else nn.Identity()
        self.dim = dim if head == "linear" else width

    def forward(self, inputs: Any) -> Float[Tensor, "n dim"]:
        """Embeddings of images, texts or series."""
        if self.kind == "image":
            require_features(inputs, (-1, -1, -1), "pretrained")
            inputs = inputs.expand(-1, 3, -1, -1) if inputs.shape[1] == 1 else inputs
        elif self.kind == "series":
            require_features(inputs, (-1, -1), "pretrained")
        return self.head(self.backbone(inputs))

    def save_files(self, folder: Path) -> None:
        """Write what is needed beside the weights: architecture and tokenizer."""
        self.backbone.save_files(folder)

    def set_checkpointing(self) -> None:
        """Keep no activations within the layers: they are computed again in backward.

        Raises:
            RecipeError: If the model cannot.
        """
        inner = self.backbone.model
        for part in (inner, *inner.modules()):
            if getattr(part, "supports_gradient_checkpointing", False):
                part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                return
            if hasattr(part, "set_grad_checkpointing"):
                part.set_grad_checkpointing()
                return
        raise RecipeError(
            f"{type(inner).__name__} cannot compute its activations again.",
            hint="Use --set train.recompute=false; train.chunk saves memory with any model.",
            reference="cannot-recompute",
        )


class TransformersBackbone(nn.Module):
    """A model of transformers, with what it reads and what of its outputs counts.

    Args:
        place: Its folder.
        kind: What an input is; a model of images and texts gives the half that reads it.
        pool: As for `Pretrained`.
        max_tokens: As for `Pretrained`.
    """

    def __init__(self, place: Path, kind: Kind, *, pool: Pool = "auto", max_tokens: int = 0) -> None:
        super().__init__()
        library = require_library()
        self.pool = pool
        with understood(place), quiet(library):
            config = library.AutoConfig.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
            self.model = open_model(library, *class_of(library, config, kind), place)
            self.kind = READS.get(self.model.main_input_name, "series")
            self.tokenizer: Any = open_tokenizer(library, place) if self.kind == "text" else None
        own = getattr(self.model.config, "max_position_embeddings", 512)
        limit = min(self.tokenizer.model_max_length, own) if self.tokenizer is not None else 0
        self.most = min(max_tokens, limit) if max_tokens else limit
        self.asks = set(inspect.signature(self.model.forward).parameters)
        self.wave = read_config(place, "preprocessor_config.json") if self.kind == "series" else {}

    def forward(self, inputs: Any) -> Float[Tensor, "n width"]:
        """What the model says of each input, pooled."""
        if self.kind == "image":
            more = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in self.asks else {}
            return self._pooled_image(self.model(pixel_values=inputs, **more), inputs.shape[-1])
        if self.kind == "text":
            device = next(self.model.parameters()).device
            read = self.tokenizer(
                [*inputs], padding=True, truncation=True, max_length=self.most, return_tensors="pt"
            ).to(device)
            mask = read["attention_mask"]
            found = self.model(**{key: value for key, value in read.items() if key in self.asks})
        else:
            found, mask = self._heard(inputs)
        return self._pooled_tokens(found, mask)

    def _heard(self, waves: Float[Tensor, "n channels steps"]) -> tuple[Any, Int64[Tensor, "n tokens"]]:
        """What the model says of waves, and which of its tokens are of the sound."""
        lengths = true_lengths(waves)
        steps = torch.arange(waves.shape[2], device=waves.device)
        more = {"attention_mask": (steps < lengths[:, None]).long()} if self.wave.get("return_attention_mask") else {}
        found = self.model(input_values=waves.mean(1), **more)
        count = self.model._get_feat_extract_output_lengths(lengths).clamp_min(1)  # noqa: SLF001  no other way to ask
        tokens = torch.arange(found.last_hidden_state.shape[1], device=waves.device)
        return found, (tokens < count[:, None]).long()

    def _pooled_image(self, found: Any, size: int) -> Tensor:
        projected = getattr(found, "image_embeds", None)
        if projected is not None and self.pool in ("auto", "pooler"):
            return projected
        states = found.last_hidden_state
        if states.ndim == 4:  # maps of a convolutional network
            return self._refuse("maps") if self.pool in ("cls", "last") else states.mean((2, 3))
        patch = getattr(self.model.config, "patch_size", None)
        special = states.shape[1] - (size // patch) ** 2 if isinstance(patch, int) else 0
        own = getattr(found, "pooler_output", None)
        if self.pool == "pooler" or (self.pool == "auto" and special <= 0 and own is not None):
            return self._refuse("no output of its own") if own is None else own.flatten(1)
        if self.pool in ("auto", "cls") and special > 0:
            return states[:, 0]
        if self.pool in ("cls", "last"):
            return self._refuse("patches only")
        return states[:, max(0, special) :].mean(1)

    def _pooled_tokens(self, found: Any, mask: Int64[Tensor, "n tokens"]) -> Tensor:
        projected = getattr(found, "text_embeds", None)
        if projected is not None and self.pool in ("auto", "pooler"):
            return projected
        states = found.last_hidden_state
        match self.pool:
            case "cls":
                return states[:, 0]
            case "last":
                places = torch.arange(mask.shape[1], device=mask.device)
                return states[torch.arange(len(states), device=mask.device), (places * mask).amax(1)]
            case "pooler":
                own = getattr(found, "pooler_output", None)
                return self._refuse("no output of its own") if own is None else own
            case _:
                weights = mask[:, :, None].to(states)
                return (states * weights).sum(1) / weights.sum(1).clamp_min(1)

    def _refuse(self, has: str) -> Tensor:
        raise RecipeError(
            f"pool = {self.pool!r} does not fit {type(self.model).__name__}, which has {has}.",
            hint='Use --set model.encoder.pool=auto, or "mean".',
            reference="refused-option",
        )

    def save_files(self, folder: Path) -> None:
        """Write architecture and tokenizer; the weights are those of the embedder."""
        self.model.config.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))
        for name in ("preprocessor_config.json",) if self.wave else ():
            write_json(folder / name, self.wave, version=1)
        write_json(folder / BESIDE, {"class": type(self.model).__name__}, version=1)


class TimmBackbone(nn.Module):
    """A model of timm, where that is installed: its features before the classes.

    Args:
        place: Folder with `config.json` and `model.safetensors`, as the hub holds it.

    Raises:
        MissingExtraError: If timm is not installed.
    """

    kind: ClassVar[Kind] = "image"

    def __init__(self, place: Path) -> None:
        super().__init__()
        try:
            import timm  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  never a dependency
        except ImportError as problem:
            raise MissingExtraError(
                f"{place.name} is a model of timm, which is not installed.", package="timm"
            ) from problem
        self.config = read_config(place)
        options = self.config.get("model_args", {})
        with understood(place):
            self.model = timm.create_model(self.config["architecture"], pretrained=False, num_classes=0, **options)
            if not (place / BESIDE).is_file():
                import safetensors.torch  # noqa: PLC0415  beside its only user

                found = safetensors.torch.load_file(weights_in(place))
                self.model.load_state_dict({key: found[key] for key in self.model.state_dict()})

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n width"]:
        """Features of images."""
        return self.model(images)

    def save_files(self, folder: Path) -> None:
        """Write the architecture; the weights are those of the embedder."""
        write_json(folder / "config.json", self.config, version=1)
        write_json(folder / BESIDE, {"class": "timm"}, version=1)


def _probed(backbone: nn.Module, kind: Kind, size: int) -> int:
    """The length of an output; weights that no output depends on are set not to learn.

    Raises:
        CheckpointError: If one that outputs depend on was not in the file of the weights.
    """
    shape = (1, 3, size, size) if kind == "image" else (1, 1, 8000)
    inputs: Any = ["a"] if kind == "text" else torch.ones(shape)
    backbone.eval()
    with torch.enable_grad():
        found = backbone(inputs)
        found.sum().backward()
    model: Any = backbone.model
    for name, weight in model.named_parameters():
        is_used, weight.grad = weight.grad is not None, None
        weight.requires_grad_(is_used)
        if is_used and name in getattr(model, "missing", ()):
            raise CheckpointError(
                f"The file of the weights lacks {name}, which the output depends on.",
                hint=f"{HINT} Or take another `pool`.",
                reference="damaged-file",
            )
    backbone.train()
    return int(found.shape[1])


def _wrong_kind(name: str, reads: str, kind: str) -> RecipeError:
    nouns = {"image": "images", "text": "texts", "series": "sounds, as series"}
    return RecipeError(
        f"{Path(name).name} reads {nouns[reads]}; the data is of the kind {kind}.",
        hint="Name a model for this kind of data: --set model.encoder=NAME",
        reference="encoder-kind",
    )
