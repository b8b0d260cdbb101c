"""What an embedding is worth: measures with intervals and counts, exact and streamed."""

from tuplet.evaluation.bootstrap import Comparison, compare
from tuplet.evaluation.classification import KnnResult, knn, knn_curve, linear_probe
from tuplet.evaluation.clustering import ClusteringResult, clustering, clustering_agreement
from tuplet.evaluation.correlation import rank_correlation
from tuplet.evaluation.graded import GradedResult, graded, ndcg
from tuplet.evaluation.health import HealthResult, health
from tuplet.evaluation.result import Estimates, QueryResult, Result
from tuplet.evaluation.retrieval import RetrievalResult, matching, retrieval
from tuplet.evaluation.scored import scored_pairs
from tuplet.evaluation.verification import Curve, VerificationResult, verification, verification_from_scores
from tuplet.evaluation.words import WordPairs, WordSimilarityResult, read_word_pairs, word_similarity

__all__ = [
    "ClusteringResult",
    "Comparison",
    "Curve",
    "Estimates",
    "GradedResult",
    "HealthResult",
    "KnnResult",
    "QueryResult",
    "Result",
    "RetrievalResult",
    "VerificationResult",
    "WordPairs",
    "WordSimilarityResult",
    "clustering",
    "clustering_agreement",
    "compare",
    "graded",
    "health",
    "knn",
    "knn_curve",
    "linear_probe",
    "matching",
    "ndcg",
    "rank_correlation",
    "read_word_pairs",
    "retrieval",
    "scored_pairs",
    "verification",
    "verification_from_scores",
    "word_similarity",
]
