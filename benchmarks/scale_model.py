"""What a step of each loss family costs one of n processes: multiply-adds, bytes received, bytes held.

B is the global batch, b = B / n, D the length of an embedding, C the classes, N the rows of the bank, K its noise
samples, all in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

FLOAT = 4


@dataclass(frozen=True)
class Sizes:
    """How large a step is."""

    batch: int
    dim: int
    classes: int = 0
    bank: int = 0
    noise: int = 0
    rate: float = 0.1
    queries: int = 1


@dataclass(frozen=True)
class Cost:
    """What one process does, receives and holds in a step, beside the encoder.

    Args:
        products: Multiply-adds of matrix products.
        wire: Bytes received.
        memory: Bytes held: embeddings of others, weights, gradients; neither optimiser state nor the tile.
    """

    products: float
    wire: float
    memory: float


LABEL = 8


def _sum_over(n: int, numbers: float) -> float:
    """Bytes that an all-reduce of so many bytes brings a process, in a ring."""
    return 2 * (n - 1) / n * numbers


def _rows_of_others(n: int, s: Sizes) -> float:
    """Bytes of the embeddings and labels of the other processes, and of the sums of their gradients."""
    others = (n - 1) * s.batch / n
    return others * (s.dim * FLOAT + LABEL) + _sum_over(n, s.batch * s.dim * FLOAT)


def pairs(n: int, s: Sizes) -> Cost:
    """Own rows against all: scores, and the gradients of both sides."""
    return Cost(3 * s.batch / n * s.batch * s.dim, _rows_of_others(n, s), 2 * s.batch * s.dim * FLOAT)


def ring(n: int, s: Sizes) -> Cost:
    """Scores twice, since no row is kept; blocks go round twice, and their gradients once more than that."""
    b = s.batch / n
    wire = (3 * n - 2) * b * s.dim * FLOAT + (n - 1) * b * LABEL
    return Cost(4 * b * s.batch * s.dim, wire, 4 * b * s.dim * FLOAT)


def triplets(n: int, s: Sizes) -> Cost:
    """Scores once; the gradient touches the farthest and the nearest alone."""
    return Cost(s.batch / n * s.batch * s.dim, _rows_of_others(n, s), 2 * s.batch * s.dim * FLOAT)


def graded(n: int, s: Sizes) -> Cost:
    """As pairs, with real labels of two numbers."""
    found = pairs(n, s)
    return replace(found, wire=found.wire + (n - 1) * s.batch / n * LABEL)


def flat_index(n: int, s: Sizes) -> Cost:
    """Every vector of this process's share with every query; the answers are a few numbers."""
    return Cost(s.queries * s.bank / n * s.dim, 0.0, s.bank / n * s.dim * FLOAT)


def proxies(n: int, s: Sizes) -> Cost:
    """A share of the proxies as anchors against all rows, scored twice; all proxies lie in each process."""
    wire = _rows_of_others(n, s) + _sum_over(n, s.classes * s.dim * FLOAT)
    held = (2 * s.batch + (4 + (n == 1)) * s.classes) * s.dim * FLOAT
    return Cost(4 * s.batch * s.classes / n * s.dim, wire, held)


def class_weights(n: int, s: Sizes) -> Cost:
    """Own rows against all classes; the gradient of the weights is summed."""
    b = s.batch / n
    wire = (n - 1) * b * LABEL + _sum_over(n, s.classes * s.dim * FLOAT)
    held = (2 if n == 1 else 4) * s.classes * s.dim * FLOAT
    return Cost((3 * s.classes + 1) * b * s.dim, wire, held)


def sampled(n: int, s: Sizes) -> Cost:
    """The same with a share of the classes; the weights of all lie in each process."""
    b, classes = s.batch / n, int(s.rate * s.classes)
    wire = (n - 1) * b * LABEL + _sum_over(n, classes * s.dim * FLOAT)
    return Cost((3 * classes + 1) * b * s.dim, wire, (s.classes + classes) * s.dim * FLOAT)


def sharded(n: int, s: Sizes) -> Cost:
    """All rows against a share of the classes, scored twice; 22 bytes of a row are summed over the shares."""
    wire = _rows_of_others(n, s) + _sum_over(n, 22 * s.batch)
    held = (2 * s.batch + 3 * s.classes / n) * s.dim * FLOAT
    return Cost((4 * s.classes / n + 1) * s.batch * s.dim, wire, held)


def bank(n: int, s: Sizes) -> Cost:
    """Own rows against their noise rows; the bank lies in each process, and takes in the rows of all."""
    b = s.batch / n
    wire = (n - 1) * b * (s.dim * FLOAT + LABEL)
    return Cost((2 * s.noise + 2) * b * s.dim, wire, 2 * s.bank * s.dim * FLOAT)


def sharded_bank(n: int, s: Sizes) -> Cost:
    """All rows against their noise rows in this share of the bank; the noise positions of all are gathered.

    Every row has as many places for noise as the row that has most of it here.
    """
    b = s.batch / n
    wire = _rows_of_others(n, s) + (n - 1) * b * (s.noise * LABEL + s.dim * FLOAT + LABEL)
    longest = s.noise / n + math.sqrt(2 * math.log(s.batch) * s.noise / n * (1 - 1 / n))
    return Cost((2 * longest + 2) * s.batch * s.dim, wire, 2 * s.bank / n * s.dim * FLOAT)


CASES: dict[str, Callable[[int, Sizes], Cost]] = {
    "pairs, gathered": pairs,
    "pairs, in a ring": ring,
    "triplets": triplets,
    "graded": graded,
    "proxies": proxies,
    "class weights": class_weights,
    "class weights, sampled": sampled,
    "class weights, sharded": sharded,
    "memory bank": bank,
    "memory bank, sharded": sharded_bank,
    "index, flat": flat_index,
}
UNSHARED = ("index, flat",)
"""What processes do not do together."""
SEVERAL = ("pairs, in a ring", "class weights, sharded", "memory bank, sharded")
"""What one process alone does not do."""


def cost(case: str, n: int, sizes: Sizes) -> Cost:
    """The cost of a case for n processes."""
    return CASES[case](n, sizes)
