"""Every registered loss with a batch that it can be called with, at any size."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dense
import torch
from torch import Tensor, nn

from tuplet.losses import registry
from tuplet.memory import FeatureQueue

PER_CLASS = 4
SELECTIONS = ("all", "easy", "semihard", "hard", "batch_hard", "facenet")
FORMS: dict[str, dense.Form] = {
    "arcface": dense.arcface,
    "contrastive": dense.contrastive,
    "cosface": dense.cosface,
    "info_nce": dense.info_nce,
    "log_ratio": dense.log_ratio,
    "npair": dense.info_nce,
    "nt_xent": dense.supcon,
    "supcon": dense.supcon,
}


@dataclass
class Case:
    """One loss and one batch.

    Args:
        loss: The module.
        tensors: Embeddings and whatever else comes by position.
        given: Labels or references, by name.
        form: The dense form of the same value, if there is one here.
        inputs: What the dense form takes; its leaves are those of the case.
    """

    loss: nn.Module
    tensors: tuple[Tensor, ...]
    given: dict[str, Any]
    form: dense.Form | None = None
    inputs: dense.Inputs | None = None
    leaves: list[Tensor] = field(default_factory=list)

    def value(self) -> Tensor:
        """What the loss says."""
        return self.loss(*self.tensors, **self.given)

    def double(self) -> "Case":
        """The same in float64, with leaves of its own."""

        def wide(x: Any) -> Any:
            leaf = isinstance(x, Tensor) and x.requires_grad
            return x.detach().double().requires_grad_() if leaf else x

        tensors = tuple(map(wide, self.tensors))
        given = {name: wide(x) for name, x in self.given.items()}
        return make(copy.deepcopy(self.loss).double(), tensors, given)


def make(loss: nn.Module, tensors: tuple[Tensor, ...], given: dict[str, Any], **dense_form: Any) -> Case:
    leaves = [x for x in (*tensors, *given.values(), *loss.parameters()) if isinstance(x, Tensor) and x.requires_grad]
    return Case(loss, tensors, given, **dense_form, leaves=leaves)


def names() -> list[str]:
    """Registered losses; triplets once for each selection."""
    found: list[str] = []
    for name in registry:
        found += [f"triplet {select}" for select in SELECTIONS] if name == "triplet" else [name]
    return found


def case(name: str, rows: int, dim: int, device: torch.device, classes: int = 0, **options: Any) -> Case:
    """The loss with its defaults, and rows in general position on the unit sphere."""
    name, _, select = name.partition(" ")
    kinds: dict[str, dict[str, Any]] = {"": {}, "queue": {"queue": FeatureQueue(2 * rows, dim)}}
    options |= kinds.get(select, {"select": select})
    select = options.get("select", "")
    generator = torch.Generator().manual_seed(0)
    classes = classes or min(1000, rows)
    loss = _module(name, rows, dim, classes, options).to(device)

    def leaf(*shape: int) -> Tensor:
        x = torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)
        return x.to(device).requires_grad_()

    supervision = registry[name].supervision
    if supervision == "none":
        return make(loss, (leaf(rows // 8, 8, dim), leaf(rows // 8, 8, dim)), {})
    x = leaf(rows, dim)
    order = torch.randperm(rows, generator=generator)
    own = torch.arange(rows, device=device)
    if supervision == "pair" and name != "nt_xent":
        y = leaf(rows, dim)
        return make(loss, (x,), {"references": y}, **_dense(name, x, y, own))
    if supervision == "scored":
        scores = torch.randn(rows, generator=generator, dtype=torch.float64).to(device)
        return make(loss, (x,), {"references": leaf(rows, dim), "labels": scores})
    if supervision == "graded":
        labels = torch.randn(rows, 2, generator=generator, dtype=torch.float64).to(device)
        return make(loss, (x,), {"labels": labels}, **_dense(name, x, None, labels))
    if supervision in ("target", "example"):
        labels = torch.randint(classes, (rows,), generator=generator) if supervision == "target" else order
    elif "num_classes" in inspect.signature(registry[name]).parameters:
        labels = torch.randint(classes, (rows,), generator=generator)
    else:
        labels = order // (2 if name == "nt_xent" else PER_CLASS)
    labels = labels.to(device)
    if name == "npair":  # as its paper has it: rows and their positives
        y = leaf(rows, dim)
        return make(loss, (x,), {"references": y}, **_dense(name, x, y, own, temperature=1.0, cosine=False))
    weight = getattr(loss, "weight", None) if name in ("arcface", "cosface") else None
    reported: dict[str, Any] = {"select": select, "each": PER_CLASS} if select else {}
    return make(loss, (x,), {"labels": labels}, **_dense(name, x, weight, labels, **reported))


def _module(name: str, rows: int, dim: int, classes: int, options: dict[str, Any]) -> nn.Module:
    needed: dict[str, Any] = {
        "num_classes": classes,
        "dim": dim,
        "num_instances": rows,
        "counts": torch.arange(classes, 0, -1),
        "latent_dim": dim,
        "context_dim": dim,
        "steps": 2,
    }
    parameters = inspect.signature(registry[name]).parameters
    if name == "instance_discrimination":
        needed["noise_samples"] = min(4096, rows)
    torch.manual_seed(0)
    loss: nn.Module = registry[name](**{key: x for key, x in needed.items() if key in parameters} | options)
    for parameter in loss.parameters():  # word vectors start at zero, where nothing pulls
        if not parameter.any():
            nn.init.normal_(parameter, std=dim**-0.5)
    return loss


def _dense(name: str, x: Tensor, other: Tensor | None, labels: Tensor, **options: Any) -> dict[str, Any]:
    form = dense.triplet if "select" in options else FORMS.get(name)
    if form is None or options.get("select") == "easy":  # whose hinge is 0 everywhere
        return {}
    return {"form": form, "inputs": dense.Inputs(x, other, labels, options)}


def baseline(name: str, given: Case) -> Callable[[], Tensor] | None:
    """The loss of the same kind in pytorch-metric-learning, if that is installed and has one."""
    try:
        from pytorch_metric_learning import distances, losses  # noqa: PLC0415  # the baseline is optional
    except ImportError:
        return None
    labels, (x, *_) = given.given.get("labels"), given.tensors
    squared = distances.LpDistance(power=2)
    weight = getattr(given.loss, "weight", None)
    shape = () if weight is None else (weight.shape[-2], weight.shape[-1])
    makers: dict[str, Callable[[], nn.Module]] = {
        "a_softmax": lambda: losses.SphereFaceLoss(*shape),
        "angular": losses.AngularLoss,
        "arcface": lambda: losses.ArcFaceLoss(*shape, margin=28.65),
        "circle": losses.CircleLoss,
        "contrastive": losses.ContrastiveLoss,
        "cosface": lambda: losses.CosFaceLoss(*shape),
        "fast_ap": losses.FastAPLoss,
        "generalized_lifted": losses.GeneralizedLiftedStructureLoss,
        "histogram": lambda: losses.HistogramLoss(n_bins=100),
        "intra_pair_variance": losses.IntraPairVarianceLoss,
        "lifted_structure": losses.LiftedStructureLoss,
        "margin": losses.MarginLoss,
        "multi_similarity": losses.MultiSimilarityLoss,
        "nca": losses.NCALoss,
        "nt_xent": losses.NTXentLoss,
        "p2sgrad": lambda: losses.P2SGradLoss(shape[-1], shape[0]),
        "pnp": losses.PNPLoss,
        "proxy_anchor": lambda: losses.ProxyAnchorLoss(*shape),
        "proxy_nca": lambda: losses.ProxyNCALoss(*shape),
        "ranked_list": lambda: losses.RankedListLoss(margin=0.4, Tn=10),
        "smooth_ap": losses.SmoothAPLoss,
        "snr_contrastive": losses.SignalToNoiseRatioContrastiveLoss,
        "soft_triple": lambda: losses.SoftTripleLoss(int(labels.max()) + 1, x.shape[1], 10),  # type: ignore[union-attr]
        "supcon": losses.SupConLoss,
        "threshold_consistent_margin": losses.ThresholdConsistentMarginLoss,
        "triplet all": lambda: losses.TripletMarginLoss(margin=0.2, distance=squared),
        "tuplet_margin": losses.TupletMarginLoss,
    }
    if name not in makers or labels is None:
        return None
    module = makers[name]().to(x.device)
    return lambda: module(x, labels)
