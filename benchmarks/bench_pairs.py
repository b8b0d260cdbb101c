"""SupCon, NT-Xent, contrastive, InfoNCE and triplets against the limit and against pytorch-metric-learning.

Run `make bench`, or `python benchmarks/bench_pairs.py`. Bounds are what the project promises.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from measure import compare, limit, peak_mb, record
from torch import Tensor

from tuplet import losses

DIM = 128
PER_CLASS = 4
SELECTIONS: tuple[Literal["all", "easy", "semihard", "hard", "batch_hard", "facenet"], ...] = (
    "all",
    "easy",
    "semihard",
    "hard",
    "batch_hard",
    "facenet",
)
MEMORY = "MB beyond inputs and gradients"


def case(name: str, batch: int) -> tuple[list[Tensor], Callable[[], object]]:
    """Inputs and one forward and backward pass of a contestant."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(batch, DIM, generator=generator)).requires_grad_()
    y = torch.nn.functional.normalize(torch.randn(batch, DIM, generator=generator)).requires_grad_()
    labels = torch.arange(batch) // PER_CLASS
    ours: dict[str, Callable[[], Tensor]] = {
        "supcon": lambda: losses.supcon(x, labels),
        "nt_xent": lambda: losses.nt_xent(x, torch.arange(batch) // 2),
        "contrastive": lambda: losses.contrastive(x, labels),
        "contrastive, all active": lambda: losses.contrastive(x, labels, margin=2.0),
        "contrastive two sets": lambda: losses.contrastive(x, labels, references=y, reference_labels=labels),
        "info_nce": lambda: losses.info_nce(x, y),
        "log_ratio": lambda: losses.log_ratio(x, labels.double()),
    }
    ours |= {
        f"triplet {select}{', soft' if soft else ''}": partial(losses.triplet, x, labels, select=select, soft=soft)
        for select in SELECTIONS
        for soft in (False, True)
    }
    ours["triplet all, squared hinge"] = partial(losses.triplet, x, labels, power=2)
    if name in ours:
        chosen = ours[name]
    else:
        from pytorch_metric_learning import distances  # noqa: PLC0415  # the baseline is optional
        from pytorch_metric_learning import losses as pml  # noqa: PLC0415

        squared = distances.LpDistance(power=2)
        modules = {
            "pytorch-metric-learning supcon": pml.SupConLoss(),
            "pytorch-metric-learning contrastive": pml.ContrastiveLoss(),
            "pytorch-metric-learning nt_xent": pml.NTXentLoss(),
            "pytorch-metric-learning triplet all": pml.TripletMarginLoss(margin=0.2, distance=squared),
        }
        module = modules[name]
        theirs = torch.arange(batch) // 2 if name == "pytorch-metric-learning nt_xent" else labels
        chosen = lambda: module(x, theirs)  # noqa: E731

    def run() -> None:
        x.grad = y.grad = None
        chosen().backward()

    return [x, y], run


def step(name: str, batch: int) -> None:
    """Touch everything once at a small size, so that memory counts the pass and not the imports."""
    del name
    for loss in ("supcon", "contrastive", "triplet all", "info_nce", "log_ratio"):
        case(loss, min(batch, 64))[1]()


def main() -> None:
    """All figures of this file."""
    big = 4096
    ours = ["supcon", "nt_xent", "contrastive", "contrastive, all active", "contrastive two sets", "info_nce"]
    names = [*ours, "pytorch-metric-learning supcon", "pytorch-metric-learning contrastive"]
    contestants = {"limit": limit(big, big, DIM), **{name: case(name, big)[1] for name in names}}
    bounds = {"supcon": 0.6, "nt_xent": 0.6, "contrastive": 0.6, "contrastive, all active": 0.6}
    against = [(name, "limit", f"<= {bounds.get(name, 1.0)}") for name in ours]
    against += [(f"pytorch-metric-learning {name}", name, ">= 7") for name in ("supcon", "contrastive")]
    record("pairs against the limit and pytorch-metric-learning", compare(f"B={big:,}", contestants, against))
    # pytorch-metric-learning compares every positive with every negative pair of the batch: at 4,096 a tensor of it
    # takes 275 GB
    small = 512
    contestants = {name: case(name, small)[1] for name in ("nt_xent", "pytorch-metric-learning nt_xent")}
    against = [("pytorch-metric-learning nt_xent", "nt_xent", ">= 7")]
    record("NT-Xent against pytorch-metric-learning", compare(f"B={small:,}", contestants, against, turns=5))
    medium = 1024
    contestants = {name: case(name, medium)[1] for name in ("triplet all", "pytorch-metric-learning triplet all")}
    against = [("pytorch-metric-learning triplet all", "triplet all", ">= 40")]
    record("all triplets against pytorch-metric-learning", compare(f"B={medium:,}", contestants, against, turns=5))
    middle = 2048
    contestants = {name: case(name, middle)[1] for name in ("log_ratio", "contrastive", "contrastive, all active")}
    against = [("log_ratio", "contrastive", "<= 3"), ("log_ratio", "contrastive, all active", "<= 3")]
    record("log-ratio", compare(f"B={middle:,}", contestants, against))
    growth: list[dict[str, object]] = []
    for batch in (1024, big, 16384):
        turns = 3 if batch > big else 5
        names = ["supcon", "contrastive", "info_nce", "triplet all"]
        contestants = {name: case(name, batch)[1] for name in names}
        growth += compare(f"B={batch:,}", contestants, [(name, "supcon", "") for name in contestants], turns)
        growth += [_memory(name, batch, "<= 64" if batch == big else "") for name in names]
    record("growth of time and memory with the batch", growth)
    others = [f"triplet {select}{soft}" for select in SELECTIONS for soft in ("", ", soft")][1:]
    names = ["contrastive, all active", *others, "triplet all, squared hinge", "log_ratio"]
    record("memory of losses over pairs and triplets", [_memory(name, big, "<= 64") for name in names])


def _memory(name: str, batch: int, bound: str) -> dict[str, object]:
    megabytes = round(peak_mb("bench_pairs", name, batch), 1)
    return {"size": f"B={batch:,}", "contestant": name, "ratio": megabytes, "against": MEMORY, "bound": bound}


if __name__ == "__main__":
    main()
