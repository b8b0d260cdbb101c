"""Five reductions of rows of scores to losses."""

from tuplet.reductions.hinge import Hinge
from tuplet.reductions.log_ratio import LogRatio
from tuplet.reductions.logistic import Logistic
from tuplet.reductions.softmax import Softmax, SoftmaxEach
from tuplet.reductions.triplet import HardestTriplet, NearestBeyond, Triplet

__all__ = ["HardestTriplet", "Hinge", "LogRatio", "Logistic", "NearestBeyond", "Softmax", "SoftmaxEach", "Triplet"]
