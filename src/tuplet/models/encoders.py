"""Networks that turn preprocessed inputs into embeddings."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from tuplet.registry import Registry

registry: Registry[Callable[..., nn.Module]] = Registry("encoder", plugins="tuplet.encoders")


def build_encoder(config: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Build a registered encoder with weights that depend on `seed` alone.

    Args:
        config: `{"name": ..., option: value, ...}`, as in the `[model]` section of a recipe.
        seed: Of the initial weights. The global random state is left as it was.
    """
    raise NotImplementedError
