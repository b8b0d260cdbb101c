"""What cannot be meant is refused at the door, in words of the caller, and never taken for something else."""

import pytest
import torch

from shapes import unchecked
from tuplet import losses
from tuplet.errors import TupletError
from tuplet.memory import FeatureQueue

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(8) // 2
SERIES = torch.randn(3, 5, 4), torch.randn(3, 5, 4)

MISSPELT = {
    "select": lambda: losses.TripletLoss(select="semi-hard")(X, IDS),
    "power": lambda: losses.TripletLoss(power=3)(X, IDS),
    "mean_over": lambda: losses.TripletLoss(mean_over="valid")(X, IDS),
    "mean_over of pairs": lambda: losses.ContrastiveLoss(mean_over="valid")(X, IDS),
    "convention": lambda: losses.ContrastiveLoss(convention="lecun")(X, IDS),
    "where": lambda: losses.SupConLoss(where="outside")(X, IDS),
    "extension": lambda: losses.CombinedMarginLoss(4, 4, extension="reflected"),
    "gradient": lambda: losses.CombinedMarginLoss(4, 4, gradient="straight-through"),
    "negatives": lambda: losses.CPCLoss(4, 4, 2, negatives="everything")(*SERIES),
    "objective": lambda: losses.NCELoss([3] * 9, 4, objective="negative sampling"),
    "anchors": lambda: losses.LogRatioLoss(anchors="one")(X, IDS.double()),
    "geometry": lambda: losses.SupConLoss(geometry="cos")(X, IDS),
}
WRONG = {
    "labels have shape (8, 1)": lambda: losses.SupConLoss()(X, IDS[:, None]),
    "multi-hot rows of 0 and 1": lambda: losses.SupConLoss()(X, IDS.view(8, 1).expand(8, 2)),
    "one class id per row": lambda: losses.SupConLoss(queue=FeatureQueue(8, 4))(X, torch.eye(4).long()[IDS]),
    "a queue of length 5": lambda: losses.SupConLoss(queue=_filled(5))(X, IDS),
    "a weight of length 5": lambda: losses.NCELoss([3] * 9, 5)(X, IDS),
    "a bank of length 5": lambda: losses.InstanceDiscriminationLoss(40, 5, noise_samples=3)(X, IDS),
    "targets have shape (7,)": lambda: losses.NCELoss([3] * 9, 4)(X, IDS[:7]),
    "type torch.float32": lambda: losses.NCELoss([3] * 9, 4)(X, IDS.float()),
    "positions have shape (7,)": lambda: losses.InstanceDiscriminationLoss(40, 4, noise_samples=3)(X, IDS[:7]),
    "noise_samples is 0": lambda: losses.NCELoss([3] * 9, 4, noise_samples=0),
}


def _filled(dim):
    queue = FeatureQueue(8, dim)
    queue.push(torch.randn(3, dim), torch.arange(3))
    return queue


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_choice_is_not_taken_for_another(name):
    with unchecked(), pytest.raises(TupletError) as error:
        MISSPELT[name]()
    assert error.value.reference == "unknown-choice"
    assert error.value.hint


@pytest.mark.parametrize("said", WRONG)
def test_what_does_not_fit_is_told_by_name(said):
    with unchecked(), pytest.raises(TupletError) as error:
        WRONG[said]()
    assert said in str(error.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_ids_of_any_whole_type_are_ids(dtype, rate):
    head = losses.ArcFaceLoss(20, 4, sample_rate=rate).eval()
    assert torch.equal(head(X, IDS.to(dtype)), head(X, IDS))
    assert torch.equal(losses.SupConLoss()(X, IDS.to(dtype)), losses.SupConLoss()(X, IDS))
