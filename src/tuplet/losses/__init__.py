"""The losses, as functions and as modules."""

from tuplet.losses.base import MetricLoss, register, registry
from tuplet.losses.contrastive import ContrastiveLoss, contrastive
from tuplet.losses.info_nce import InfoNCELoss, NTXentLoss, SupConLoss, info_nce, nt_xent, supcon
from tuplet.losses.log_ratio import LogRatioLoss, log_ratio
from tuplet.losses.npair import NPairLoss, npair
from tuplet.losses.triplet import TripletLoss, triplet

__all__ = [
    "ContrastiveLoss",
    "InfoNCELoss",
    "LogRatioLoss",
    "MetricLoss",
    "NPairLoss",
    "NTXentLoss",
    "SupConLoss",
    "TripletLoss",
    "contrastive",
    "info_nce",
    "log_ratio",
    "npair",
    "nt_xent",
    "register",
    "registry",
    "supcon",
    "triplet",
]
