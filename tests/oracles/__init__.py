"""The losses once more: float64, plain loops, autograd, written from the equations and never from `src`.

Every function takes tensors and returns a `Truth`: the differentiable value, what it was divided by, and named counts.
That they are right is shown by `test_oracles_reproduce_the_vectors.py`.
"""

from oracles.a_softmax import a_softmax, annealing, psi
from oracles.circle import circle
from oracles.combined_margin import combined_margin, target_score
from oracles.contrastive import contrastive
from oracles.correlations import barlow_twins, vicreg
from oracles.cosent import angle, cosent
from oracles.cpc import cpc
from oracles.decoupled_contrastive import decoupled_contrastive
from oracles.directed import directed_info_nce
from oracles.faces import adaface, curricularface, elasticface, magface, p2sgrad, uniface
from oracles.fast_ap import fast_ap
from oracles.generalized_lifted import generalized_lifted
from oracles.info_nce import capped_temperature, info_nce
from oracles.instance_discrimination import (
    estimated_log_z,
    instance_discrimination,
    instance_discrimination_nce,
    updated_bank,
)
from oracles.log_ratio import log_ratio
from oracles.multi_similarity import multi_similarity
from oracles.nca import nca
from oracles.nce import nce
from oracles.npair import npair_mc, npair_per_pair, tuplet
from oracles.nt_xent import nt_xent
from oracles.proxy_anchor import proxy_anchor
from oracles.proxy_nca import proxy_nca
from oracles.rules import Truth
from oracles.siglip import siglip
from oracles.smooth_ap import smooth_ap
from oracles.soft_triple import soft_triple
from oracles.supcon import supcon
from oracles.triplet import triplet

__all__ = [
    "Truth",
    "a_softmax",
    "adaface",
    "angle",
    "annealing",
    "barlow_twins",
    "capped_temperature",
    "circle",
    "combined_margin",
    "contrastive",
    "cosent",
    "cpc",
    "curricularface",
    "decoupled_contrastive",
    "directed_info_nce",
    "elasticface",
    "estimated_log_z",
    "fast_ap",
    "generalized_lifted",
    "info_nce",
    "instance_discrimination",
    "instance_discrimination_nce",
    "log_ratio",
    "magface",
    "multi_similarity",
    "nca",
    "nce",
    "npair_mc",
    "npair_per_pair",
    "nt_xent",
    "p2sgrad",
    "proxy_anchor",
    "proxy_nca",
    "psi",
    "siglip",
    "smooth_ap",
    "soft_triple",
    "supcon",
    "target_score",
    "triplet",
    "tuplet",
    "uniface",
    "updated_bank",
    "vicreg",
]
