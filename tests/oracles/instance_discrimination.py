"""Non-parametric instance discrimination: every example is a class, and its bank row the class weight."""

import math

import torch
from torch import Tensor

from oracles.rules import EPS, Term, Truth, divide, softplus, unit, weight_list


def instance_discrimination(
    f: Tensor,
    bank: Tensor,
    positions: Tensor,
    *,
    temperature: float = 0.07,
    proximal: float = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """-log of the softmax over the whole bank, plus proximal |f - own row|^2; the bank is constant."""
    rows, bank = unit(f), bank.detach()
    w = weight_list(weights, len(f))
    terms = []
    for i, own in enumerate(positions.tolist()):
        if own == -1:
            continue
        s = bank @ rows[i] / temperature
        near = proximal * (rows[i] - bank[own]).square().sum()
        terms.append(Term(w[i], torch.logsumexp(s, 0) - s[own] + near, 1.0))
    return divide(terms, f)


def instance_discrimination_nce(
    f: Tensor,
    bank: Tensor,
    positions: Tensor,
    noise: Tensor,
    log_z: float,
    *,
    temperature: float = 0.07,
    proximal: float = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """softplus(-d+) + sum over m noise rows of softplus(d), d = s/tau - log Z - log(m/n)."""
    rows, bank = unit(f), bank.detach()
    w = weight_list(weights, len(f))
    m, n = noise.shape[1], len(bank)
    terms = []
    for i, own in enumerate(positions.tolist()):
        if own == -1:
            continue
        d = bank @ rows[i] / temperature - log_z - math.log(m / n)
        near = proximal * (rows[i] - bank[own]).square().sum()
        terms.append(Term(w[i], softplus(-d[own]) + softplus(d[noise[i]]).sum() + near, 1.0))
    return divide(terms, f)


def estimated_log_z(f: Tensor, bank: Tensor, noise: Tensor, *, temperature: float = 0.07) -> float:
    """log of (n/m) sum over noise of exp(s/tau), averaged over the batch."""
    rows = unit(f)
    each = [len(bank) / noise.shape[1] * (bank[noise[i]] @ rows[i] / temperature).exp().sum() for i in range(len(f))]
    return math.log(sum(z.item() for z in each) / len(each))


def updated_bank(bank: Tensor, f: Tensor, positions: Tensor, *, momentum: float = 0.5) -> Tensor:
    """Each position that occurs: normalise(mu row + (1 - mu) mean of its unit features); kept if nothing is left."""
    rows, after = unit(f), bank.clone()
    for position in sorted(set(positions.tolist()) - {-1}):
        mean = rows[positions == position].mean(0)
        mixed = momentum * bank[position] + (1 - momentum) * mean
        if mixed.norm() > EPS and mean.norm() > EPS:
            after[position] = mixed / mixed.norm()
    return after
