"""The losses, as functions and as modules."""

from tuplet.losses.adaface import AdaFaceLoss, adaface
from tuplet.losses.base import MetricLoss, register, registry
from tuplet.losses.circle import CircleLoss, circle
from tuplet.losses.contrastive import ContrastiveLoss, contrastive
from tuplet.losses.correlations import BarlowTwinsLoss, VICRegLoss, barlow_twins, vicreg
from tuplet.losses.cosent import AnglELoss, CoSENTLoss, angle, cosent
from tuplet.losses.cpc import CPCLoss, cpc, mutual_information_bound
from tuplet.losses.curricularface import CurricularFaceLoss, curricularface
from tuplet.losses.declare import DeclaredLoss, PairLoss
from tuplet.losses.decoupled import DecoupledContrastiveLoss, decoupled_contrastive
from tuplet.losses.elasticface import ElasticFaceLoss, elasticface
from tuplet.losses.fast_ap import FastAPLoss, fast_ap
from tuplet.losses.generalized_lifted import GeneralizedLiftedLoss, generalized_lifted
from tuplet.losses.info_nce import InfoNCELoss, NTXentLoss, SupConLoss, info_nce, nt_xent, supcon
from tuplet.losses.instance import InstanceDiscriminationLoss, estimate_log_z, instance_discrimination
from tuplet.losses.log_ratio import LogRatioLoss, log_ratio
from tuplet.losses.magface import MagFaceLoss, magface
from tuplet.losses.margin_softmax import (
    ArcFaceLoss,
    ASoftmaxLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    a_softmax,
    arcface,
    combined_margin,
    cosface,
)
from tuplet.losses.metrics import loss_metrics
from tuplet.losses.multi_similarity import MultiSimilarityLoss, multi_similarity
from tuplet.losses.nca import NCALoss, nca
from tuplet.losses.nce import NCELoss, nce
from tuplet.losses.npair import NPairLoss, npair
from tuplet.losses.p2sgrad import P2SGradLoss, p2sgrad
from tuplet.losses.proxies import ProxyLoss
from tuplet.losses.proxy_anchor import ProxyAnchorLoss, proxy_anchor
from tuplet.losses.proxy_nca import ProxyNCALoss, proxy_nca
from tuplet.losses.selection import distance_weighted
from tuplet.losses.siglip import SigLIPLoss, siglip
from tuplet.losses.smooth_ap import SmoothAPLoss, smooth_ap
from tuplet.losses.soft_triple import SoftTripleLoss, soft_triple
from tuplet.losses.target_head import TargetHeadLoss
from tuplet.losses.triplet import TripletLoss, triplet
from tuplet.losses.uniface import UniFaceLoss, uniface
from tuplet.losses.wrappers import MatryoshkaLoss, RegularisedLoss, WrappedLoss
from tuplet.memory import FeatureQueue

__all__ = [
    "ASoftmaxLoss",
    "AdaFaceLoss",
    "AnglELoss",
    "ArcFaceLoss",
    "BarlowTwinsLoss",
    "CPCLoss",
    "CircleLoss",
    "CoSENTLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DeclaredLoss",
    "DecoupledContrastiveLoss",
    "ElasticFaceLoss",
    "FastAPLoss",
    "FeatureQueue",
    "GeneralizedLiftedLoss",
    "InfoNCELoss",
    "InstanceDiscriminationLoss",
    "LogRatioLoss",
    "MagFaceLoss",
    "MatryoshkaLoss",
    "MetricLoss",
    "MultiSimilarityLoss",
    "NCALoss",
    "NCELoss",
    "NPairLoss",
    "NTXentLoss",
    "P2SGradLoss",
    "PairLoss",
    "ProxyAnchorLoss",
    "ProxyLoss",
    "ProxyNCALoss",
    "RegularisedLoss",
    "SigLIPLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SupConLoss",
    "TargetHeadLoss",
    "TripletLoss",
    "UniFaceLoss",
    "VICRegLoss",
    "WrappedLoss",
    "a_softmax",
    "adaface",
    "angle",
    "arcface",
    "barlow_twins",
    "circle",
    "combined_margin",
    "contrastive",
    "cosent",
    "cosface",
    "cpc",
    "curricularface",
    "decoupled_contrastive",
    "distance_weighted",
    "elasticface",
    "estimate_log_z",
    "fast_ap",
    "generalized_lifted",
    "info_nce",
    "instance_discrimination",
    "log_ratio",
    "loss_metrics",
    "magface",
    "multi_similarity",
    "mutual_information_bound",
    "nca",
    "nce",
    "npair",
    "nt_xent",
    "p2sgrad",
    "proxy_anchor",
    "proxy_nca",
    "register",
    "registry",
    "siglip",
    "smooth_ap",
    "soft_triple",
    "supcon",
    "triplet",
    "uniface",
    "vicreg",
]
