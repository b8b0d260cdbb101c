"""Lists of candidates are positions in a table, and others are refused before a kernel reads beside it."""

import pytest
import torch

from tuplet.engine.listed import listed
from tuplet.errors import ShapeError
from tuplet.reductions import Softmax


@pytest.mark.parametrize("place", [5, 10**9, -1])
def test_a_place_outside_of_the_table_is_refused(place):
    anchors, table = torch.randn(3, 4), torch.randn(5, 4)
    with pytest.raises(ShapeError, match="of a table of 5"):
        listed(Softmax(), anchors, table, torch.tensor([[0, 1], [1, place], [2, 3]]))
