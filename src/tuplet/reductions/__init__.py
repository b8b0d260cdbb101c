"""Five programs that fold rows of scores into losses."""

from tuplet.reductions.hinge import Hinge
from tuplet.reductions.softmax import Softmax, SoftmaxEach
from tuplet.reductions.triplet import HardestTriplet, NearestBeyond, Triplet

__all__ = ["HardestTriplet", "Hinge", "NearestBeyond", "Softmax", "SoftmaxEach", "Triplet"]
