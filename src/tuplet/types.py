"""Names of the choices that appear in several signatures."""

from typing import Literal

GeometryName = Literal["cosine", "dot", "euclidean", "squared_euclidean"]
DistanceName = Literal["euclidean", "squared_euclidean"]
MeanOver = Literal["active", "all", "anchors"]
Soft = Literal[False, True, "margin"]
"""softplus in the place of a hinge: not, without the margin, or with it."""
Family = Literal["pair-wise", "softmax-based", "triplet", "instance-level"]
"""Families of losses, as the pages of the docs sort them."""
Side = Literal["query", "partner"]
"""The two sides of a pair: what asks, and what answers."""
Supervision = Literal["class", "pair", "example", "graded", "scored", "multi", "relation", "target", "none"]
"""What the labels of a loss or a data set mean.

class: ids of classes · pair: row i belongs to row i of the second set · example: position of the example in its
data set · graded: numbers whose differences matter · scored: a number for each pair, how alike its
sides are · multi: several classes per example · relation: pairs are positive as a rule says it · target: word ids ·
none: no labels.
"""
