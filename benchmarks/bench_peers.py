"""Value and gradient of every loss that pytorch-metric-learning has too, with the defaults of each.

Run `make bench`, or `python benchmarks/bench_peers.py`. Losses that another benchmark times at larger sizes are left to
it; of these 512 rows are as many as the baseline has memory for, which compares triples.
"""

import warnings
from collections.abc import Callable

import every
import torch
from measure import compare, record
from torch import Tensor

ROWS, DIM, CLASSES = 512, 128, 128
ELSEWHERE = ("a_softmax", "arcface", "cosface", "contrastive", "nt_xent", "supcon", "triplet")  # in pairs and in heads


def step(value: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """A value and its gradients."""
    for leaf in leaves:
        leaf.grad = None
    value().backward()


def main() -> None:
    """One table for all of them."""
    warnings.simplefilter("ignore")  # of the baseline
    rows: list[dict[str, object]] = []
    for name in every.names():
        if name.partition(" ")[0] in ELSEWHERE:
            continue
        given = every.case(name, ROWS, DIM, torch.device("cpu"), CLASSES)
        theirs = every.baseline(name, given)
        if theirs is None:
            continue
        contestants = {
            name: lambda given=given: step(given.value, given.leaves),  # type: ignore[misc]
            f"pytorch-metric-learning {name}": lambda given=given, theirs=theirs: step(theirs, given.leaves),  # type: ignore[misc]
        }
        against = [(f"pytorch-metric-learning {name}", name, "")]
        rows += compare(f"B={ROWS:,}", contestants, against, turns=3)
        print(name, rows[-1]["ratio"], flush=True)
    record("other losses beside pytorch-metric-learning", rows)


if __name__ == "__main__":
    main()
