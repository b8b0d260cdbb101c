"""What an embedding is worth: measures with intervals and counts, exact and streamed."""

from tuplet.evaluation.bootstrap import Comparison, compare
from tuplet.evaluation.result import Estimates, QueryResult, Result
from tuplet.evaluation.retrieval import RetrievalResult, retrieval

__all__ = [
    "Comparison",
    "Estimates",
    "QueryResult",
    "Result",
    "RetrievalResult",
    "compare",
    "retrieval",
]
