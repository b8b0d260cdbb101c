"""The losses once more: float64, plain loops, autograd, written from the equations and never from `src`.

Every function takes tensors and returns a `Truth`: the differentiable value, what it was divided by, and named counts.
That they are right is shown by `test_oracles_reproduce_the_vectors.py`.
"""

from oracles.a_softmax import a_softmax, annealing, psi
from oracles.angular import angular
from oracles.centroid_triplet import centroid_triplet
from oracles.circle import circle
from oracles.combined_margin import combined_margin, target_score
from oracles.contrastive import contrastive
from oracles.correlations import barlow_twins, vicreg
from oracles.cosent import angle, cosent
from oracles.cpc import cpc
from oracles.decoupled_contrastive import decoupled_contrastive
from oracles.directed import directed_info_nce
from oracles.dynamic_soft_margin import dynamic_soft_margin
from oracles.faces import adaface, curricularface, elasticface, magface, p2sgrad, uniface
from oracles.fast_ap import fast_ap
from oracles.generalized_lifted import generalized_lifted
from oracles.histogram import histogram
from oracles.info_nce import capped_temperature, info_nce
from oracles.instance_discrimination import (
    estimated_log_z,
    instance_discrimination,
    instance_discrimination_nce,
    updated_bank,
)
from oracles.intra_pair_variance import intra_pair_variance
from oracles.lifted_structure import lifted_structure
from oracles.log_ratio import log_ratio
from oracles.margin import margin
from oracles.multi_similarity import multi_similarity
from oracles.nca import nca
from oracles.nce import nce
from oracles.npair import npair_mc, npair_per_pair, tuplet
from oracles.nt_xent import nt_xent
from oracles.pnp import pnp
from oracles.proxy_anchor import proxy_anchor
from oracles.proxy_nca import proxy_nca
from oracles.ranked_list import ranked_list
from oracles.rules import Truth
from oracles.siglip import siglip
from oracles.smooth_ap import smooth_ap
from oracles.snr_contrastive import snr_contrastive
from oracles.soft_triple import soft_triple
from oracles.supcon import supcon
from oracles.threshold_consistent_margin import threshold_consistent_margin
from oracles.triplet import triplet
from oracles.tuplet_margin import tuplet_margin

__all__ = [
    "Truth",
    "a_softmax",
    "adaface",
    "angle",
    "angular",
    "annealing",
    "barlow_twins",
    "capped_temperature",
    "centroid_triplet",
    "circle",
    "combined_margin",
    "contrastive",
    "cosent",
    "cpc",
    "curricularface",
    "decoupled_contrastive",
    "directed_info_nce",
    "dynamic_soft_margin",
    "elasticface",
    "estimated_log_z",
    "fast_ap",
    "generalized_lifted",
    "histogram",
    "info_nce",
    "instance_discrimination",
    "instance_discrimination_nce",
    "intra_pair_variance",
    "lifted_structure",
    "log_ratio",
    "magface",
    "margin",
    "multi_similarity",
    "nca",
    "nce",
    "npair_mc",
    "npair_per_pair",
    "nt_xent",
    "p2sgrad",
    "pnp",
    "proxy_anchor",
    "proxy_nca",
    "psi",
    "ranked_list",
    "siglip",
    "smooth_ap",
    "snr_contrastive",
    "soft_triple",
    "supcon",
    "target_score",
    "threshold_consistent_margin",
    "triplet",
    "tuplet",
    "tuplet_margin",
    "uniface",
    "updated_bank",
    "vicreg",
]
