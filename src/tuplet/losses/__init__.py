"""The losses, as functions and as modules."""

from tuplet.losses.adaface import AdaFaceLoss, adaface
from tuplet.losses.angular import AngularLoss, angular
from tuplet.losses.base import MetricLoss, register, registry
from tuplet.losses.centroid_triplet import CentroidTripletLoss, centroid_triplet
from tuplet.losses.circle import CircleLoss, circle
from tuplet.losses.contrastive import ContrastiveLoss, contrastive
from tuplet.losses.correlations import BarlowTwinsLoss, VICRegLoss, barlow_twins, vicreg
from tuplet.losses.cosent import AnglELoss, CoSENTLoss, angle, cosent
from tuplet.losses.cpc import CPCLoss, cpc, mutual_information_bound
from tuplet.losses.curricularface import CurricularFaceLoss, curricularface
from tuplet.losses.declare import DeclaredLoss, PairLoss
from tuplet.losses.decoupled import DecoupledContrastiveLoss, decoupled_contrastive
from tuplet.losses.distilled import DistilledLoss
from tuplet.losses.dynamic_soft_margin import DynamicSoftMarginLoss, dynamic_soft_margin
from tuplet.losses.elasticface import ElasticFaceLoss, elasticface
from tuplet.losses.fast_ap import FastAPLoss, fast_ap
from tuplet.losses.generalized_lifted import GeneralizedLiftedLoss, generalized_lifted
from tuplet.losses.histogram import HistogramLoss, histogram
from tuplet.losses.info_nce import InfoNCELoss, NTXentLoss, SupConLoss, info_nce, nt_xent, supcon
from tuplet.losses.instance import InstanceDiscriminationLoss, estimate_log_z, instance_discrimination
from tuplet.losses.intra_pair_variance import IntraPairVarianceLoss, intra_pair_variance
from tuplet.losses.lifted_structure import LiftedStructureLoss, lifted_structure
from tuplet.losses.log_ratio import LogRatioLoss, log_ratio
from tuplet.losses.magface import MagFaceLoss, magface
from tuplet.losses.margin import MarginLoss, margin
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
from tuplet.losses.pnp import PNPLoss, pnp
from tuplet.losses.proxies import ProxyLoss
from tuplet.losses.proxy_anchor import ProxyAnchorLoss, proxy_anchor
from tuplet.losses.proxy_nca import ProxyNCALoss, proxy_nca
from tuplet.losses.ranked_list import RankedListLoss, ranked_list
from tuplet.losses.selection import distance_weighted
from tuplet.losses.siglip import SigLIPLoss, siglip
from tuplet.losses.smooth_ap import SmoothAPLoss, smooth_ap
from tuplet.losses.snr_contrastive import SNRContrastiveLoss, snr_contrastive
from tuplet.losses.soft_triple import SoftTripleLoss, soft_triple
from tuplet.losses.target_head import TargetHeadLoss
from tuplet.losses.threshold_consistent_margin import ThresholdConsistentMarginLoss, threshold_consistent_margin
from tuplet.losses.triplet import TripletLoss, triplet
from tuplet.losses.tuplet_margin import TupletMarginLoss, tuplet_margin
from tuplet.losses.uniface import UniFaceLoss, uniface
from tuplet.losses.wrappers import MatryoshkaLoss, QueuedLoss, RegularisedLoss, WrappedLoss
from tuplet.memory import FeatureQueue

__all__ = [
    "ASoftmaxLoss",
    "AdaFaceLoss",
    "AnglELoss",
    "AngularLoss",
    "ArcFaceLoss",
    "BarlowTwinsLoss",
    "CPCLoss",
    "CentroidTripletLoss",
    "CircleLoss",
    "CoSENTLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DeclaredLoss",
    "DecoupledContrastiveLoss",
    "DistilledLoss",
    "DynamicSoftMarginLoss",
    "ElasticFaceLoss",
    "FastAPLoss",
    "FeatureQueue",
    "GeneralizedLiftedLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "InstanceDiscriminationLoss",
    "IntraPairVarianceLoss",
    "LiftedStructureLoss",
    "LogRatioLoss",
    "MagFaceLoss",
    "MarginLoss",
    "MatryoshkaLoss",
    "MetricLoss",
    "MultiSimilarityLoss",
    "NCALoss",
    "NCELoss",
    "NPairLoss",
    "NTXentLoss",
    "P2SGradLoss",
    "PNPLoss",
    "PairLoss",
    "ProxyAnchorLoss",
    "ProxyLoss",
    "ProxyNCALoss",
    "QueuedLoss",
    "RankedListLoss",
    "RegularisedLoss",
    "SNRContrastiveLoss",
    "SigLIPLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SupConLoss",
    "TargetHeadLoss",
    "ThresholdConsistentMarginLoss",
    "TripletLoss",
    "TupletMarginLoss",
    "UniFaceLoss",
    "VICRegLoss",
    "WrappedLoss",
    "a_softmax",
    "adaface",
    "angle",
    "angular",
    "arcface",
    "barlow_twins",
    "centroid_triplet",
    "circle",
    "combined_margin",
    "contrastive",
    "cosent",
    "cosface",
    "cpc",
    "curricularface",
    "decoupled_contrastive",
    "distance_weighted",
    "dynamic_soft_margin",
    "elasticface",
    "estimate_log_z",
    "fast_ap",
    "generalized_lifted",
    "histogram",
    "info_nce",
    "instance_discrimination",
    "intra_pair_variance",
    "lifted_structure",
    "log_ratio",
    "loss_metrics",
    "magface",
    "margin",
    "multi_similarity",
    "mutual_information_bound",
    "nca",
    "nce",
    "npair",
    "nt_xent",
    "p2sgrad",
    "pnp",
    "proxy_anchor",
    "proxy_nca",
    "ranked_list",
    "register",
    "registry",
    "siglip",
    "smooth_ap",
    "snr_contrastive",
    "soft_triple",
    "supcon",
    "threshold_consistent_margin",
    "triplet",
    "tuplet_margin",
    "uniface",
    "vicreg",
]
