"""The losses written densely, as one would write them: the whole matrix, autograd, nothing else.

Each takes the anchors of some rows and all references, and returns the sum of the rows' losses and what it is divided
by. With all rows at once it is the dense form; block by block, in float64, it is the truth at sizes at which the whole
matrix fits nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

Form = Callable[..., tuple[Tensor, Tensor]]


@dataclass
class Inputs:
    """What a loss is about.

    Args:
        x: Anchors, a leaf.
        other: References or class weights, a leaf; None for one set.
        labels: Of the anchors.
        options: Constants of the equation.
    """

    x: Tensor
    other: Tensor | None
    labels: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def leaves(self) -> list[Tensor]:
        return [self.x] if self.other is None else [self.x, self.other]

    def double(self) -> "Inputs":
        x, other = (None if t is None else t.detach().double().requires_grad_() for t in (self.x, self.other))
        assert x is not None
        return Inputs(x, other, self.labels, self.options)


def whole(form: Form, given: Inputs) -> Tensor:
    """The dense form."""
    everyone = torch.arange(len(given.x), device=given.x.device)
    references = given.x if given.other is None else given.other
    total, count = form(given.x, references, given.labels, everyone, **given.options)
    return total / count


def truth(form: Form, given: Inputs, entries: int = 2**26) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients in float64, block by block."""
    exact = given.double()
    references = exact.x if exact.other is None else exact.other
    total = count = torch.zeros((), dtype=torch.float64, device=exact.x.device)
    rows = torch.arange(len(exact.x), device=exact.x.device)
    for block in rows.split(max(1, entries // len(references))):
        loss, number = form(exact.x[block], references, exact.labels, block, **exact.options)
        loss.backward()
        total, count = total + loss.detach(), count + number.detach()
    grads = [x.grad / count for x in exact.leaves if x.grad is not None]
    return total / count, grads


def mates(labels: Tensor, each: int) -> Tensor:
    """Positions of the other members of each row's class, (rows, each - 1), where all classes are of one size."""
    classes = labels.argsort().view(-1, each)
    shifted = torch.stack([classes.roll(-step, 1) for step in range(1, each)], 2)
    found = torch.empty(len(labels), each - 1, dtype=torch.int64, device=labels.device)
    return found.index_copy_(0, classes.flatten(), shifted.flatten(0, 1))


def supcon(a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, temperature: float = 0.1) -> tuple[Tensor, Tensor]:
    """Khosla et al. 2020, eq. 2; with classes of two rows it is NT-Xent."""
    scores = normalize(a) @ normalize(r).T / temperature
    itself = _itself(rows, len(r))
    positive = (labels[rows, None] == labels) & ~itself
    mass = scores.masked_fill(itself, -torch.inf).logsumexp(1)
    number = positive.sum(1)
    losses = mass - torch.where(positive, scores, 0.0).sum(1) / number.clamp_min(1)
    return torch.where(number > 0, losses, 0.0).sum(), (number > 0).sum()


def info_nce(
    a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, temperature: float = 0.07, cosine: bool = True
) -> tuple[Tensor, Tensor]:
    """van den Oord et al. 2018, eq. 4: row i of the references belongs to row i."""
    del labels
    a, r = (normalize(a), normalize(r)) if cosine else (a, r)
    return cross_entropy(a @ r.T / temperature, rows, reduction="sum"), _number(rows)


def contrastive(a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, margin: float = 1.0) -> tuple[Tensor, Tensor]:
    """Sohn 2016, eq. 1, over all pairs."""
    squared, itself = _squared(a, r), _itself(rows, len(r))
    there = squared > 0
    distance = torch.where(there, torch.where(there, squared, 1.0).sqrt(), 0.0)
    same = labels[rows, None] == labels
    losses = torch.where(same, squared, (margin - distance).clamp_min(0).square())
    return losses.masked_fill(itself, 0.0).sum(), (~itself).sum()


def log_ratio(a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Kim et al. 2019, eq. 3; the sum over pairs of others as a variance."""
    gap = (labels[rows, None] - labels).square().sum(2)
    chosen = (gap > 0) & ~_itself(rows, len(r))
    v = chosen.to(a.dtype)
    ratio = (torch.where(chosen, _squared(a, r), 1.0) + eps).log() - (torch.where(chosen, gap, 1.0) + eps).log().to(a)
    mass = v.sum(1)
    mean = (v * ratio).sum(1, keepdim=True) / mass[:, None]
    return (mass * (v * (ratio - mean).square()).sum(1)).sum(), (mass * (mass - 1) / 2).sum()


def triplet(
    a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, select: str, each: int, margin: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Hinges of triplets of squared distances; classes have `each` rows."""
    distance = _squared(a, r)
    negative = labels[rows, None] != labels
    near = distance.gather(1, mates(labels, each)[rows])
    if select == "batch_hard":
        far = distance.masked_fill(~negative, torch.inf).amin(1)
        return (near.amax(1) - far + margin).clamp_min(0).sum(), _number(rows)
    far = distance[:, None, :]
    if select == "facenet":
        beyond = far.masked_fill(~(negative[:, None] & (far > near[..., None])), torch.inf).amin(2)
        farthest = distance.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        chosen = torch.where(beyond < torch.inf, beyond, farthest)
        return (near - chosen + margin).clamp_min(0).sum(), _number(rows) * (each - 1)
    z = near[..., None] + margin - far
    kept = negative[:, None] & (z > 0)
    if select == "semihard":
        kept = kept & (near[..., None] < far)
    elif select == "hard":
        kept = kept & (far <= near[..., None])
    return torch.where(kept, z, 0.0).sum(), kept.sum()


def arcface(
    a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, margin: float = 0.5, scale: float = 64.0
) -> tuple[Tensor, Tensor]:
    """Deng et al. 2019, eq. 3; the angle of no target of these inputs comes near π - margin."""
    return _head(a, r, labels[rows], scale, lambda own: (own.acos() + margin).cos())


def cosface(
    a: Tensor, r: Tensor, labels: Tensor, rows: Tensor, *, margin: float = 0.35, scale: float = 64.0
) -> tuple[Tensor, Tensor]:
    """Wang et al. 2018, eq. 4."""
    return _head(a, r, labels[rows], scale, lambda own: own - margin)


def _head(
    a: Tensor, weight: Tensor, own: Tensor, scale: float, margin: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    cosine = normalize(a) @ normalize(weight).T
    logit = cosine.scatter(1, own[:, None], margin(cosine.gather(1, own[:, None])))
    return cross_entropy(scale * logit, own, reduction="sum"), _number(own)


def _number(rows: Tensor) -> Tensor:
    return torch.full((), len(rows), device=rows.device)


def _itself(rows: Tensor, references: int) -> Tensor:
    return rows[:, None] == torch.arange(references, device=rows.device)


def _squared(a: Tensor, r: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + r.square().sum(1) - 2 * a @ r.T).clamp_min(0)
