"""Margin heads against the limit and against pytorch-metric-learning, heads of millions of classes, one large InfoNCE.

Run `make bench BENCH=benchmarks/bench_heads.py`. Bounds are what the project promises. The largest head takes 5.1 GB.
"""

from collections.abc import Callable

import torch
from measure import compare, limit, peak_mb, record, take_turns
from torch import Tensor

from tuplet import losses

ROWS, DIM = 256, 128
KINDS = ("arcface", "cosface", "a_softmax")
SAMPLED = "cosface, 1 % of the classes, SGD step"


def case(name: str, classes: int) -> tuple[list[Tensor], Callable[[], object]]:
    """Inputs and one forward and backward pass of a contestant."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, DIM, generator=generator).requires_grad_()
    labels = torch.randint(classes, (ROWS,), generator=generator)
    if name == SAMPLED:
        return [x], _sampled(x, labels, classes)
    if name.startswith("pytorch-metric-learning"):
        from pytorch_metric_learning import losses as pml  # noqa: PLC0415  # the baseline is optional

        kinds = {"arcface": pml.ArcFaceLoss, "cosface": pml.CosFaceLoss, "a_softmax": pml.SphereFaceLoss}
        module = kinds[name.removeprefix("pytorch-metric-learning ")](num_classes=classes, embedding_size=DIM)
        weight, chosen = module.W, lambda: module(x, labels)
    else:
        weight = torch.randn(classes, DIM, generator=generator).requires_grad_()
        chosen = lambda: getattr(losses, name)(x, weight, labels)  # noqa: E731

    def run() -> None:
        x.grad = weight.grad = None
        chosen().backward()

    return [x, weight], run


def _sampled(x: Tensor, labels: Tensor, classes: int) -> Callable[[], object]:
    """A step that touches the rows of drawn classes only: sparse gradient, plain SGD."""
    head = losses.CosFaceLoss(classes, DIM, sample_rate=0.01)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)

    def run() -> None:
        x.grad = None
        optimizer.zero_grad()
        head(x, labels).backward()
        optimizer.step()
        head.advance()

    return run


def step(name: str, classes: int) -> None:
    """Touch everything once at a small size, so that memory counts the pass and not the imports."""
    del name
    for loss in (*KINDS, SAMPLED):
        case(loss, min(classes, 500))[1]()


def heads(classes: int) -> list[dict[str, object]]:
    """Every head beside the limit and pytorch-metric-learning."""
    contestants = {"limit": limit(ROWS, classes, DIM)}
    contestants |= {
        name: case(name, classes)[1] for kind in KINDS for name in (kind, f"pytorch-metric-learning {kind}")
    }
    against = [(kind, "limit", "<= 1.5") for kind in KINDS] + [
        (f"pytorch-metric-learning {kind}", kind, ">= 2") for kind in KINDS
    ]
    rows = compare(f"C={classes:,}", contestants, against, turns=7 if classes < 50_000 else 5)
    return [*rows, *(_memory(kind, classes, "<= 64") for kind in KINDS)]


def _memory(name: str, classes: int, bound: str) -> dict[str, object]:
    megabytes = round(peak_mb("bench_heads", name, classes), 1)
    against = "MB beyond the weight" + ("" if name == SAMPLED else " and its gradient")
    return {"size": f"C={classes:,}", "contestant": name, "ratio": megabytes, "against": against, "bound": bound}


def huge(name: str, classes: int) -> list[dict[str, object]]:
    """Seconds and memory of one step."""
    memory = _memory(name, classes, "")
    seconds, spread = take_turns({name: case(name, classes)[1]}, turns=3)[name]
    return [{**memory, "seconds": round(seconds, 3), "spread": round(spread, 2)}]


def large_info_nce() -> list[dict[str, object]]:
    """65,536 rows beside sixteen times the cost of 16,384."""
    from bench_pairs import case as pairs  # noqa: PLC0415  # the same inputs as there

    small, large = 16_384, 65_536
    found = take_turns({str(batch): pairs("info_nce", batch)[1] for batch in (small, large)}, turns=2)
    ratio = round(found[str(large)][0] / (found[str(small)][0] * (large / small) ** 2), 3)
    row = {"size": f"B={large:,}", "contestant": "info_nce"}
    times = {"seconds": round(found[str(large)][0], 3), "spread": round(found[str(large)][1], 2)}
    megabytes = round(peak_mb("bench_pairs", "info_nce", large), 1)
    return [
        {**row, **times, "against": "16 times its time at B=16,384", "ratio": ratio, "bound": "<= 1.2"},
        {**row, "against": "MB beyond inputs and gradients", "ratio": megabytes, "bound": "<= 512"},
    ]


def main() -> None:
    """All figures of this file."""
    record("margin heads against the limit and pytorch-metric-learning", heads(10_000) + heads(100_000))
    record("one step of a huge head", huge("arcface", 1_000_000) + huge(SAMPLED, 10_000_000))
    record("a large batch", large_info_nce())


if __name__ == "__main__":
    main()
