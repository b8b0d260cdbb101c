"""Losses compared as one would like to see them compared: the same for all, settings chosen on validation examples."""

from tuplet.comparison.conclude import concluded
from tuplet.comparison.entries import Entry, entries_of
from tuplet.comparison.folder import Folder, Request
from tuplet.comparison.results import ComparisonResult
from tuplet.comparison.schedule import compare
from tuplet.comparison.start import check_data, requested

__all__ = [
    "ComparisonResult",
    "Entry",
    "Folder",
    "Request",
    "check_data",
    "compare",
    "concluded",
    "entries_of",
    "requested",
]
