"""Encoders of time series.

A batch is `(n, channels, steps)`. Series of unequal length are padded with zeros at the end: trailing steps that are
zero in every channel are no part of a series. They change nothing, so a series has one embedding whatever it is batched
with.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tuplet.bounds import Count
from tuplet.models.encoders import registry, require_features

Norm = Literal["layer", "none"]


def true_lengths(x: Float[Tensor, "n channels steps"]) -> Int64[Tensor, " n"]:
    """Steps of each series up to its last one that is not zero; at least 1."""
    live = (x != 0).any(1)
    return (live * torch.arange(1, x.shape[2] + 1, device=x.device)).amax(1).clamp_min(1)


def _valid(lengths: Int64[Tensor, " n"], steps: int) -> Bool[Tensor, "n steps"]:
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


class _Convolution(nn.Module):
    """Convolution, normalisation and ReLU of one layer; padding stays zero."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, *, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.stride = stride
        self.pad = (kernel - 1, 0) if causal else ((kernel - 1) // 2, kernel // 2)
        self.convolution = nn.Conv1d(before, after, kernel, stride)
        self.norm = nn.LayerNorm(after) if norm == "layer" else nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.convolution(functional.pad(x, self.pad))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2).relu()
        lengths = (lengths - 1) // self.stride + 1
        return x * _valid(lengths, x.shape[2])[:, None], lengths


class _Locals(nn.Module):
    """Latents along the series: what a stack of strided convolutions sees around each step."""

    def __init__(
        self,
        channels: Count,
        width: tuple[Count, ...],
        kernels: tuple[Count, ...],
        strides: tuple[Count, ...],
        *,
        norm: Norm,
        causal: bool,
    ) -> None:
        super().__init__()
        if not len(width) == len(kernels) == len(strides) > 0:
            raise ValueError(f"width, kernels and strides need one entry per layer, not {width}, {kernels}, {strides}")
        sizes = zip((channels, *width), width, kernels, strides, strict=False)
        self.layers = nn.ModuleList([_Convolution(*size, norm=norm, causal=causal) for size in sizes])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lengths = true_lengths(x)
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x, lengths


@registry.register("series-conv")
class SeriesConv(nn.Module):
    """Convolutions along the series, pooled over its steps, then a linear layer.

    Args:
        channels: Channels of a series.
        dim: Length of an embedding.
        width: Filters of each layer.
        kernels: Steps that a filter of each layer spans.
        strides: Steps between two outputs of each layer.
        norm: "layer" normalises the filters of each step by themselves.
        pool: What is kept of each filter: its mean over the series, its largest value, or both.
    """

    def __init__(
        self,
        channels: Count = 1,
        dim: Count = 128,
        *,
        width: tuple[Count, ...] = (64, 128, 128),
        kernels: tuple[Count, ...] = (7, 5, 3),
        strides: tuple[Count, ...] = (2, 2, 1),
        norm: Norm = "layer",
        pool: Literal["mean", "max", "both"] = "both",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dim = dim
        self.pool = pool
        self.locals = _Locals(channels, width, kernels, strides, norm=norm, causal=False)
        self.head = nn.Linear(width[-1] * (2 if pool == "both" else 1), dim)

    def forward(self, x: Float[Tensor, "n channels steps"]) -> Float[Tensor, "n dim"]:
        """Embeddings of series."""
        require_features(x, (self.channels, -1), "series-conv")
        latents, lengths = self.locals(x)
        # Latents are at least zero after their ReLU, and zero where there is no series.
        pooled = {"mean": lambda: latents.sum(2) / lengths[:, None], "max": lambda: latents.amax(2)}
        kinds = ("mean", "max") if self.pool == "both" else (self.pool,)
        return self.head(torch.cat([pooled[kind]() for kind in kinds], 1))


@registry.register("series-context")
class SeriesContext(nn.Module):
    """Causal convolutions give latents, a GRU over them gives contexts: the network of contrastive predictive coding.

    `unroll` returns both for `CPCLoss`; a call pools the contexts into one embedding per series.

    Args:
        channels: Channels of a series.
        dim: Length of a context, and of an embedding.
        latent_dim: Length of a latent.
        width: Filters of the layers before the latents.
        kernels: Steps that a filter of each layer spans, the latents' layer included.
        strides: Steps between two outputs of each layer, the latents' layer included.
        norm: "layer" normalises the filters of each step by themselves.
        pool: The mean of the contexts, or the last one.
    """

    def __init__(
        self,
        channels: Count = 1,
        dim: Count = 128,
        *,
        latent_dim: Count = 64,
        width: tuple[Count, ...] = (64,),
        kernels: tuple[Count, ...] = (5, 3),
        strides: tuple[Count, ...] = (2, 1),
        norm: Norm = "layer",
        pool: Literal["mean", "last"] = "mean",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dim = dim
        self.latent_dim = latent_dim
        self.pool = pool
        self.locals = _Locals(channels, (*width, latent_dim), kernels, strides, norm=norm, causal=True)
        self.context = nn.GRU(latent_dim, dim, batch_first=True)

    def unroll(
        self, x: Float[Tensor, "n channels steps"]
    ) -> tuple[Float[Tensor, "n times latent_dim"], Float[Tensor, "n times dim"], Int64[Tensor, " n"]]:
        """Latents, contexts, and how many times of each series hold one.

        A context at time t knows the latents up to t only. After the end of a series latents are zero and contexts mean
        nothing.
        """
        require_features(x, (self.channels, -1), "series-context")
        latents, lengths = self.locals(x)
        latents = latents.transpose(1, 2)
        return latents, self.context(latents)[0], lengths

    def forward(self, x: Float[Tensor, "n channels steps"]) -> Float[Tensor, "n dim"]:
        """Embeddings of series."""
        _, contexts, lengths = self.unroll(x)
        if self.pool == "last":
            return contexts[torch.arange(len(x), device=x.device), lengths - 1]
        valid = _valid(lengths, contexts.shape[1])[:, :, None]
        return (contexts * valid).sum(1) / lengths[:, None]
