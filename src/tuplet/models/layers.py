"""The layers of an encoder, from its input to its output: what of it learns, and how fast."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from tuplet.bounds import Count, Positive, Share, bounded
from tuplet.errors import MissingExtraError, RecipeError

Frozen = int | Literal["all"]
"""Layers that do not learn: so many from the input, or all."""


def layers_of(encoder: nn.Module) -> list[nn.Module]:
    """The blocks that an encoder repeats, in the order in which they are applied; none if it repeats nothing.

    They are the members of the list of modules with the most weights, among the lists whose members are of one class.
    """
    lists = [part for part in encoder.modules() if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1]
    alike = [part for part in lists if len({type(one) for one in part}) == 1 and any(True for _ in part.parameters())]
    if not alike:
        return []
    return [*max(alike, key=lambda part: sum(weight.numel() for weight in part.parameters()))]


def depths(encoder: nn.Module) -> Mapping[str, int]:
    """How deep each parameter lies, by its name: 0 before the first layer, then 1, 2, ... and one more behind."""
    layers = layers_of(encoder)
    place = {id(weight): depth for depth, layer in enumerate(layers, start=1) for weight in layer.parameters()}
    found, has_begun = {}, False
    for name, weight in encoder.named_parameters():
        has_begun |= id(weight) in place
        found[name] = place.get(id(weight), len(layers) + 1 if has_begun else 0)
    return found


def freeze(encoder: nn.Module, layers: Frozen) -> None:
    """Let the first layers of an encoder, and what comes before them, not learn.

    Args:
        encoder: Changed in place.
        layers: How many; "all" leaves a head and adapters alone to learn; 0 changes nothing.

    Raises:
        RecipeError: If the encoder has fewer layers, or nothing is left that learns.
    """
    if layers == 0:
        return
    depth, there = depths(encoder), len(layers_of(encoder))
    if layers != "all" and layers > there:
        raise RecipeError(
            f"model.freeze = {layers}; the encoder has {there or 'no'} layers of one kind, one after the other.",
            hint=f"Use --set model.freeze=all, or a number up to {there}." if there else "Use --set model.freeze=all.",
            reference="too-few-layers",
        )
    for name, weight in encoder.named_parameters():
        is_new = name.startswith("head.") or "lora_" in name
        if not is_new and (layers == "all" or depth[name] <= layers):
            weight.requires_grad = False
    if not any(weight.requires_grad for weight in encoder.parameters()):
        raise RecipeError(
            f"model.freeze = {layers!r} leaves nothing of the encoder that learns.",
            hint="Add a head, --set model.encoder.head=linear, or adapters, --set model.lora.rank=8.",
            reference="nothing-learns",
        )


def hold_frozen(encoder: nn.Module) -> None:
    """Set the parts that do not learn to evaluation mode: no dropout there, and statistics of batches stay."""
    for part in encoder.modules():
        weights = [*part.parameters()]
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def rate_shares(encoder: nn.Module, decay: float) -> Mapping[nn.Parameter, float]:
    """Share of the learning rate by which each parameter moves: decay^(depth of the last - its own).

    Raises:
        RecipeError: If the encoder has no layers.
    """
    depth = depths(encoder)
    if not layers_of(encoder):
        raise RecipeError(
            f"train.layer_decay = {decay:g} is of encoders of equal layers, one after the other; this one has none.",
            hint="Use --set train.layer_decay=1.0",
            reference="too-few-layers",
        )
    last = max(depth.values())
    return {weight: decay ** (last - depth[name]) for name, weight in encoder.named_parameters()}


@bounded
def add_lora(
    encoder: nn.Module,
    *,
    rank: Count = 8,
    alpha: Positive = 16.0,
    dropout: Share = 0.0,
    targets: tuple[str, ...] = (),
) -> None:
    """Give linear layers low-rank adapters that learn in place of their weights: W x + alpha / rank · B A x.

    B starts at zero, so nothing changes at first. What is not an adapter no longer learns, but for a head.

    Args:
        encoder: Changed in place.
        rank: Rows of A, columns of B.
        alpha: Strength of the adapters, times `rank`.
        dropout: Share of the inputs of A that is set to zero in training.
        targets: Ends of the names of the layers, such as `q_proj`; by default all linear ones within `layers_of`.

    Raises:
        RecipeError: If the encoder has no such layer.
        MissingExtraError: If peft is not installed.

    References:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, equation 3.
    """
    try:
        import peft  # noqa: PLC0415  an optional part
    except ImportError as problem:
        raise MissingExtraError(
            "Adapters are those of the package peft, which is not installed.", extra="models"
        ) from problem
    inner: Any = getattr(getattr(encoder, "backbone", None), "model", encoder)
    linear = {name: part for name, part in inner.named_modules() if isinstance(part, nn.Linear)}
    within = {id(part) for layer in layers_of(inner) for part in layer.modules()}
    chosen = [name for name, part in linear.items() if id(part) in within] or [*linear]
    if targets:
        chosen = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in targets)]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear})
        named = f" that is called {' or '.join(map(repr, targets))}" if targets else ""
        raise RecipeError(
            f"The encoder has no linear layer{named} to adapt.",
            hint=f"Its linear layers: {', '.join(known)}." if known else "Use --set model.lora=none",
            reference="no-lora-targets",
        )
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen)
    peft.inject_adapter_in_model(config, inner)
