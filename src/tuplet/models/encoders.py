"""Networks that turn preprocessed inputs into embeddings, and the table of their names.

Every encoder is an `nn.Module` with an attribute `dim`, the length of its embeddings. What depends on the data is
called `in_dim`, `channels`, `size` or `buckets`; everything else has a default. Initial weights come from torch's
global generator, as in any torch module, so they repeat after `torch.manual_seed`; `build_encoder` seeds it for the
constructor only and leaves the caller's state alone.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tuplet.bounds import Count, Share
from tuplet.errors import RecipeError, ShapeError
from tuplet.foreign import copy_file, import_named, is_file, made, refuse_untrusted
from tuplet.models.layers import add_lora
from tuplet.registry import Registry, did_you_mean
from tuplet.seeding import derive_seed

_THEIRS = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, NameError)
"""What a network of somebody else may fail with."""
CODE = "callable"
"""The encoder whose options name code to import."""
registry: Registry[Callable[..., nn.Module]] = Registry("encoder", plugins="tuplet.encoders")


def build_encoder(config: Mapping[str, Any], *, seed: int = 0, trust: bool = False) -> nn.Module:
    """Build a registered encoder whose initial weights depend on `seed` alone.

    Args:
        config: `{"name": ..., option: value, ...}`, as in the `[model]` section of a recipe; `lora` are the options of
            `layers.add_lora`.
        seed: Of the initial weights. The global random state is left as it was.
        trust: Import the class that the encoder `callable` names. Importing a module runs it.

    Returns:
        The encoder, in training mode, on the CPU.

    Raises:
        RecipeError: If the name is unknown, the encoder refuses an option, or it names code and `trust` is not given.
    """
    name = str(config.get("name"))
    if name == CODE and not trust:
        raise refuse_untrusted("encoder", str(config.get("target")), config.get("folder"))
    constructor = registry[name]
    options = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key not in ("name", "lora")
    }
    parameters = inspect.signature(constructor).parameters
    known = [option for option, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    for option in options:
        if option not in known and len(known) == len(parameters):
            raise RecipeError(
                f"The encoder {name!r} has no option {option!r}.",
                hint=did_you_mean(option, known),
                reference="unknown-option",
            )
    _require_widths(name, options, parameters)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "encoder"))
        try:
            encoder = constructor(**options)
            if config.get("lora") is not None:
                lora: dict[str, Any] = {
                    key: tuple(one) if isinstance(one, list) else one for key, one in config["lora"].items()
                }
                add_lora(encoder, **lora)
        except ShapeError as problem:
            raise RecipeError(
                f"The encoder {name!r} refuses its options: {problem.message}",
                hint=f"Options: {', '.join(known)}.",
                reference=problem.reference,
            ) from problem
        except (TypeError, ValueError, RuntimeError) as problem:  # torch says it of sizes without a layer
            raise RecipeError(
                f"The encoder {name!r} refuses its options: {problem}.",
                hint=f"Options: {', '.join(known)}.",
                reference="refused-option",
            ) from problem
    return encoder


def _require_widths(name: str, options: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Layers have a width of 1 or more; torch makes some of none, and fails when they are used."""
    for option, value in options.items():
        known = parameters.get(option)
        if known is None or known.annotation != tuple[int, ...] or not isinstance(value, tuple):
            continue
        may_be_none = option == "hidden"  # which is then one linear map
        if any(size < 1 for size in value) or not (value or may_be_none):
            raise RecipeError(
                f"The encoder {name!r} has {option} = {list(value)}; each layer has a size of 1 or more.",
                hint="Leave it out, or write one number of 1 or more for each layer.",
                reference="refused-option",
            )


def require_features(x: Tensor, expected: tuple[int, ...], encoder: str) -> None:
    """Raise `ShapeError` unless x is a batch of inputs of the expected shape; -1 stands for any size."""
    fits = x.ndim == len(expected) + 1 and all(
        want in (-1, have) for want, have in zip(expected, x.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size < 0 else str(size) for size in expected)
        raise ShapeError(
            f"The encoder {encoder!r} reads inputs of shape (n, {wanted}), not {tuple(x.shape)}.",
            hint="Use the preprocessing that the encoder was built for.",
            reference="encoder-input",
        )


@registry.register("linear")
class Linear(nn.Linear):
    """One linear map: the Mahalanobis metric of the classics.

    Args:
        in_dim: Length of an input row.
        dim: Length of an embedding.
        bias: Also learn an offset.
    """

    def __init__(self, in_dim: Count, dim: Count = 128, *, bias: bool = True) -> None:
        super().__init__(in_dim, dim, bias)
        self.dim = dim

    def forward(self, x: Float[Tensor, "n in_dim"]) -> Float[Tensor, "n dim"]:
        """Embeddings of rows."""
        require_features(x, (self.in_features,), "linear")
        return super().forward(x)


@registry.register("mlp")
class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        in_dim: Length of an input row.
        dim: Length of an embedding.
        hidden: Widths of the layers between.
        norm: Normalisation before each ReLU; "batch" ties the rows of a batch to each other, "layer" does not.
        dropout: Share of hidden values set to zero in training, in [0, 1).
    """

    def __init__(
        self,
        in_dim: Count,
        dim: Count = 128,
        *,
        hidden: tuple[Count, ...] = (256,),
        norm: Literal["none", "batch", "layer"] = "batch",
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.dim = dim
        norms: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        layers: list[nn.Module] = []
        for before, after in zip((in_dim, *hidden), hidden, strict=False):
            layers.append(nn.Linear(before, after))
            layers += [norms[norm](after)] if norm != "none" else []
            layers.append(nn.ReLU())
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear((in_dim, *hidden)[-1], dim))

    def forward(self, x: Float[Tensor, "n in_dim"]) -> Float[Tensor, "n dim"]:
        """Embeddings of rows."""
        require_features(x, (self.in_dim,), "mlp")
        return self.layers(x)


@registry.register("conv-small")
class ConvSmall(nn.Module):
    """Strided convolutions, then a linear layer: a network for small images that trains in minutes on a CPU.

    The first filter is 5 x 5, the others 3 x 3; each halves height and width. Activations stay in channels-last order.

    Args:
        channels: Channels of an image.
        size: Height and width of an image in pixels.
        dim: Length of an embedding.
        width: Filters of each layer.
        norm: "batch" ties the images of a batch to each other; "group" does not, so a batch can be encoded in parts.
        pool: "flatten" keeps where a feature was seen, "mean" forgets it.
    """

    def __init__(
        self,
        channels: Count = 3,
        size: int = 32,
        dim: Count = 128,
        *,
        width: tuple[Count, ...] = (32, 64, 128),
        norm: Literal["batch", "group"] = "batch",
        pool: Literal["flatten", "mean"] = "flatten",
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.dim = dim
        self.pool = pool
        layers: list[nn.Module] = []
        for depth, (before, after) in enumerate(zip((channels, *width), width, strict=False)):
            kernel = 3 if depth else 5
            layers += [
                nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(math.gcd(8, after), after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        side = -(-size // 2 ** len(width))
        self.head = nn.Linear((channels, *width)[-1] * (side**2 if pool == "flatten" else 1), dim)

    def forward(self, x: Float[Tensor, "n channels size size"]) -> Float[Tensor, "n dim"]:
        """Embeddings of images."""
        require_features(x, self.shape, "conv-small")
        maps = self.layers(x.contiguous(memory_format=torch.channels_last))
        if self.pool == "mean":
            return self.head(maps.mean((2, 3)))
        return self.head(maps.permute(0, 2, 3, 1).flatten(1))  # (n, side * side * width), as it lies in memory


@registry.register("callable")
class CallableEncoder(nn.Module):
    """Any `nn.Module` that can be imported, by name or from a file.

    `model.encoder = "my_net.py:Net"` is short for it; a saved embedder keeps a copy of the file. Only subclasses of
    `nn.Module` are ever called, but importing a module runs it: nothing is imported without `--trust`, or `trust=True`
    in Python.

    Args:
        target: `package.module:Class`, or `file.py:Class`.
        dim: Length of the embeddings it returns, unless it has an attribute `dim`.
        options: Keyword arguments of its constructor.
        folder: Where the file is.
    """

    def __init__(
        self, target: str, dim: int = 128, options: Mapping[str, Any] | None = None, folder: str | None = None
    ) -> None:
        super().__init__()
        self.target = target
        self.folder = folder
        constructor = import_named("encoder", target, folder)
        if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
            raise RecipeError(
                f"{target} is not a class derived from torch.nn.Module.",
                hint="Wrap it in a class derived from torch.nn.Module whose forward returns one row per input.",
                reference="encoder-import",
            )
        self.module: nn.Module = made("encoder", target, constructor, options)
        own = getattr(self.module, "dim", None)
        self.dim = own if isinstance(own, int) else dim

    @property
    def save_files(self) -> Callable[[Path], None] | None:
        """How the file goes along with a saved embedder; None for what is installed."""
        return partial(copy_file, self.target, self.folder) if is_file(self.target) else None

    def forward(self, x: Any) -> Float[Tensor, "n dim"]:
        """Embeddings of whatever the module reads."""
        try:
            embeddings = self.module(x)
        except _THEIRS as problem:
            raise ShapeError(
                f"{self.target} failed: {str(problem).strip() or type(problem).__name__}",
                hint=f"It was given {tuple(x.shape) if isinstance(x, Tensor) else f'{len(x)} texts'}. Correct it, its "
                "options, or what it is given: --set model.preprocessing=...",
                reference="encoder-failed",
            ) from problem
        count = x.shape[0] if isinstance(x, Tensor) else len(x)  # `len` of a tensor is a constant to torch.export
        if not isinstance(embeddings, Tensor) or embeddings.shape != (count, self.dim):
            found = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
            raise ShapeError(
                f"{self.target} returned {found} for {count} inputs; expected a tensor of shape {(count, self.dim)}.",
                hint="Set `dim` of the encoder to the length of its embeddings, or return one row per input.",
                reference="encoder-output",
            )
        return embeddings
