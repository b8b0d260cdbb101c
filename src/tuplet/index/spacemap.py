"""A map from the space of one model to that of another, fitted on items that both have embedded."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from tuplet.errors import IndexFormatError
from tuplet.models import Embedder
from tuplet.seeding import derive
from tuplet.storage import read_bytes, read_json, write_json
from tuplet.types import GeometryName

KINDS = ("rotation", "linear", "learned")
_FORMAT = 1
_FACTS, _WEIGHTS = "map.json", "map.safetensors"
_REMEDY = "Delete the folder `upgrade` of the index, and type the command again."
_RIDGES = (1e-6, 1e-4, 1e-2, 1.0)
_HIDDEN, _STEPS, _RATE = 256, 300, 2e-3


class SpaceMap(nn.Module):
    """y = W x + b, of the kind `learned` + V gelu(U x + c).

    Args:
        dim_in: Length of x.
        dim: Length of y.
        hidden: Rows of U; 0 for none.
        unit: Whether x is brought to length 1 first, as embeddings are that are compared by cosine.
    """

    def __init__(self, dim_in: int, dim: int, *, hidden: int = 0, unit: bool = False) -> None:
        super().__init__()
        self.dim_in, self.dim, self.hidden, self.unit = dim_in, dim, hidden, unit
        self.linear = nn.Linear(dim_in, dim)
        self.layers = nn.Sequential(nn.Linear(dim_in, hidden), nn.GELU(), nn.Linear(hidden, dim)) if hidden else None

    def forward(self, x: Float[Tensor, "rows dim_in"]) -> Float[Tensor, "rows dim"]:
        """Embeddings of the new model where the old one would have put them."""
        x = normalize(x) if self.unit else x
        y: Tensor = self.linear(x)
        return y if self.layers is None else y + self.layers(x)

    def save(self, folder: Path) -> None:
        """Write it into a folder that is there."""
        state = {name: value.detach().contiguous().clone() for name, value in self.state_dict().items()}
        (folder / _WEIGHTS).write_bytes(safetensors.torch.save(state))
        facts = {"dim_in": self.dim_in, "dim": self.dim, "hidden": self.hidden, "unit": self.unit}
        write_json(folder / _FACTS, facts, version=_FORMAT, seal=True)

    @classmethod
    def load(cls, folder: Path) -> "SpaceMap":
        """Read what `save` wrote.

        Raises:
            IndexFormatError: If it is missing or damaged.
        """
        facts = read_json(folder / _FACTS, version=_FORMAT, error=IndexFormatError, remedy=_REMEDY, seal=True)
        found = cls(facts["dim_in"], facts["dim"], hidden=facts["hidden"], unit=facts["unit"])
        content = read_bytes(folder / _WEIGHTS, error=IndexFormatError, remedy=_REMEDY)
        try:
            found.load_state_dict(safetensors.torch.load(content))
        except (safetensors.SafetensorError, RuntimeError) as problem:
            message = f"{folder / _WEIGHTS} is damaged: {problem}."
            raise IndexFormatError(message, hint=_REMEDY, reference="damaged-file") from problem
        return found.eval()


def fitted(
    kind: str,
    new: Float[Tensor, "rows dim_in"],
    old: Float[Tensor, "rows dim"],
    new_geometry: GeometryName,
    old_geometry: GeometryName,
    *,
    seed: int = 0,
) -> SpaceMap:
    r"""The map of one kind that brings embeddings of the new model nearest to those of the old one.

    With $X$ the new and $Y$ the old embeddings, of length 1 where they are compared by cosine, else centred, a
    *rotation* is $W = U V^T$ (with $s = \sum \sigma_i / \|X\|^2$ as a factor where lengths count) of
    $Y^T X = U \Sigma V^T$; *linear* is $W = Y^T X (X^T X + \lambda I)^{-1}$, whose $\lambda$ is chosen on a fifth of
    the rows; *learned* adds a layer of 256 hidden units to it and follows the gradient of $1 - \cos$, else of the
    squared error, by Adam.

    Args:
        kind: `rotation`, `linear` or `learned`.
        new: Embeddings by the new model.
        old: Those of the same items by the old one.
        new_geometry: How the new ones are compared.
        old_geometry: How the old ones are compared.
        seed: Of the layer, and of the rows that choose.

    References:
        Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    unit = new_geometry == "cosine"
    if not len(new):
        return SpaceMap(new.shape[1], old.shape[1], unit=unit).eval()
    x, y = new.double(), old.double()
    x = normalize(x) if unit else x
    y = normalize(y) if old_geometry == "cosine" else y
    keeps_origin = unit and old_geometry == "cosine" and kind == "rotation"
    x0, y0 = x.mean(0) * (not keeps_origin), y.mean(0) * (not keeps_origin)
    weight = _rotation(x - x0, y - y0) if kind == "rotation" else _ridge(x - x0, y - y0, seed)
    found = SpaceMap(x.shape[1], y.shape[1], hidden=_HIDDEN if kind == "learned" else 0, unit=unit)
    with torch.no_grad():
        found.linear.weight.copy_(weight)
        found.linear.bias.copy_(y0 - weight @ x0)
    if kind == "learned":
        _learn(found, x.float(), y.float(), is_cosine=old_geometry == "cosine", seed=seed)
    return found.eval()


def _rotation(x: Tensor, y: Tensor) -> Tensor:
    u, sigma, vt = torch.linalg.svd(y.T @ x, full_matrices=False)
    return (u @ vt) * (sigma.sum() / x.square().sum().clamp_min(1e-30))


def _ridge(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Least squares; how much is added to the diagonal is chosen on rows that were left out."""
    order = torch.randperm(len(x), generator=derive(seed, "ridge"))
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]

    def solved(rows: Tensor, ridge: float) -> Tensor:
        gram = x[rows].T @ x[rows]
        ridge *= float(gram.diagonal().mean()) + 1e-30
        return torch.linalg.solve(gram + ridge * torch.eye(len(gram)).double(), x[rows].T @ y[rows]).T

    errors = [float((x[held] @ solved(rest, one).T - y[held]).square().sum()) for one in _RIDGES]
    return solved(order, _RIDGES[min(range(len(_RIDGES)), key=errors.__getitem__)])


def _learn(found: SpaceMap, x: Tensor, y: Tensor, *, is_cosine: bool, seed: int) -> None:
    """Follow the gradient from the closed form on; rows left out say when to stop."""
    assert found.layers is not None  # noqa: S101  made by `fitted`
    generator = derive(seed, "space map")
    with torch.no_grad():
        for name, weight in found.layers.named_parameters():
            scale = 0.0 if name.startswith("2") else weight.shape[-1] ** -0.5  # it begins as the closed form
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    order = torch.randperm(len(x), generator=generator)
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    optimiser = torch.optim.Adam(found.parameters(), lr=_RATE)

    def error(rows: Tensor) -> Tensor:
        made = found(x[rows])
        if is_cosine:
            return (1 - torch.nn.functional.cosine_similarity(made, y[rows])).mean()
        return (made - y[rows]).square().sum(1).mean()

    best, kept = float("inf"), {name: value.clone() for name, value in found.state_dict().items()}
    for step in range(_STEPS):
        optimiser.zero_grad()
        error(rest).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                now = float(error(held))
            if now < best:
                best, kept = now, {name: value.clone() for name, value in found.state_dict().items()}
    found.load_state_dict(kept)


class _Mapped(nn.Module):
    """An encoder, and then a map."""

    def __init__(self, encoder: nn.Module, space_map: SpaceMap) -> None:
        super().__init__()
        self.encoder, self.space_map, self.dim = encoder, space_map, space_map.dim

    def forward(self, batch: Any) -> Tensor:
        """See `SpaceMap`."""
        return self.space_map(self.encoder(batch).float())


def mapped(embedder: Embedder, space_map: SpaceMap, geometry: GeometryName) -> Embedder:
    """A new model whose embeddings are compared with those of an old one; it has no thresholds, and is not saved."""
    partner = None if embedder.partner is None else mapped(embedder.partner, space_map, geometry)
    return Embedder(
        _Mapped(embedder.encoder, space_map),
        embedder.preprocessing,
        encoder_config={"name": "mapped", "dim": space_map.dim},
        geometry=geometry,
        partner=partner,
        columns=embedder.columns,
    ).eval()
