"""The losses, as functions and as modules."""

from tuplet.losses.base import MetricLoss, register, registry
from tuplet.losses.contrastive import ContrastiveLoss, contrastive
from tuplet.losses.info_nce import InfoNCELoss, NTXentLoss, SupConLoss, info_nce, nt_xent, supcon
from tuplet.losses.npair import NPairLoss, npair
from tuplet.losses.triplet import TripletLoss, triplet

__all__ = [
    "ContrastiveLoss",
    "InfoNCELoss",
    "MetricLoss",
    "NPairLoss",
    "NTXentLoss",
    "SupConLoss",
    "TripletLoss",
    "contrastive",
    "info_nce",
    "npair",
    "nt_xent",
    "register",
    "registry",
    "supcon",
    "triplet",
]
