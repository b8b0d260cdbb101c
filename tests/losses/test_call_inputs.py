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
def test_what_does_not_fit_is_reported_by_name(said):
    with unchecked(), pytest.raises(TupletError) as error:
        WRONG[said]()
    assert said in str(error.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_ids_of_any_whole_type_are_ids(dtype, rate):
    head = losses.ArcFaceLoss(20, 4, sample_rate=rate).eval()
    assert torch.equal(head(X, IDS.to(dtype)), head(X, IDS))
    assert torch.equal(losses.SupConLoss()(X, IDS.to(dtype)), losses.SupConLoss()(X, IDS))


def test_a_batch_in_which_nothing_counts_is_reported_once(caplog):
    loss = losses.SupConLoss()
    with caplog.at_level("WARNING", "tuplet"):
        assert loss(X, torch.arange(8)).item() == 0
        assert loss(X, torch.arange(8)).item() == 0
    assert len(caplog.records) == 1
    assert "no two of the 8 labels" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", "tuplet"):
        assert losses.TripletLoss()(X, torch.zeros(8, dtype=torch.int64)).item() == 0
    assert "no example has a negative" in caplog.text


def test_a_batch_that_counts_is_not_warned(caplog):
    loss = losses.SupConLoss()
    with caplog.at_level("WARNING", "tuplet"):
        loss(X, IDS)
        loss(X, torch.arange(8))  # a batch now and then is nobody's mistake
    assert not caplog.records


NUMBERS = {
    "margin": lambda: losses.TripletLoss(margin=-1.0),
    "margin of pairs": lambda: losses.ContrastiveLoss(margin=float("nan")),
    "norm_penalty": lambda: losses.NPairLoss(norm_penalty=-1.0),
    "temperature": lambda: losses.SupConLoss(temperature=0.0),
    "temperature of a function": lambda: losses.supcon(X, IDS, temperature=float("inf")),
    "tile_size": lambda: losses.supcon(X, IDS, tile_size=0),
    "tile_size of a module": lambda: losses.SupConLoss()(X, IDS, tile_size=-3),
    "hard_offset": lambda: losses.TripletLoss(hard_offset=-0.1),
    "scale": lambda: losses.CosFaceLoss(4, 4, scale=-64.0),
    "sample_rate": lambda: losses.ArcFaceLoss(4, 4, sample_rate=0.0),
    "num_classes": lambda: losses.ArcFaceLoss(0, 4),
    "annealing": lambda: losses.ASoftmaxLoss(4, 4, annealing=(1.0, 2.0, 3.0)),
    "momentum": lambda: losses.InstanceDiscriminationLoss(9, 4, momentum=1.0),
    "proximal": lambda: losses.InstanceDiscriminationLoss(9, 4, proximal=-1.0),
    "power": lambda: losses.NCELoss([3] * 9, 4, power=-1.0),
    "steps": lambda: losses.CPCLoss(4, 4, 0),
    "size": lambda: FeatureQueue(2.5, 4),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_bounds_is_refused(name):
    with unchecked(), pytest.raises(TupletError) as error:
        NUMBERS[name]()
    assert error.value.reference == "option-range"
    assert error.value.message.startswith(name.partition(" ")[0])


@pytest.mark.parametrize(
    "build",
    [
        lambda: losses.ArcFaceLoss(4, 4, margin=28.6),
        lambda: losses.CombinedMarginLoss(4, 4, m2=28.6),
        lambda: losses.arcface(X, X[:4], IDS, margin=28.6),
    ],
)
def test_a_margin_in_degrees_is_refused_with_the_word_radians(build):
    with pytest.raises(TupletError) as error:
        build()
    assert "radians" in error.value.hint


PAIR_LOSSES = ["contrastive", "triplet", "npair", "supcon", "nt_xent"]


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_arrays_and_lists_are_tensors(name):
    expected = getattr(losses, name)(X, IDS)
    with unchecked():
        for x, ids in ((X.numpy(), IDS.numpy()), (X.tolist(), IDS.tolist()), (list(X), tuple(IDS)), (X, IDS.tolist())):
            torch.testing.assert_close(getattr(losses, name)(x, ids).float(), expected)
            torch.testing.assert_close(losses.registry[name]()(x, ids).float(), expected)


def test_arrays_are_tensors_for_heads_words_series_and_numbers_too():
    with unchecked():
        head, words = losses.ArcFaceLoss(4, 4).eval(), losses.NCELoss([3] * 9, 4).eval()
        assert torch.equal(head(X.numpy(), IDS.numpy()), head(X, IDS))
        assert torch.equal(words(X.numpy(), IDS.tolist()), words(X, IDS))
        bank = losses.InstanceDiscriminationLoss(40, 4, noise_samples=None).eval()
        assert torch.equal(bank(X.numpy(), IDS.numpy()), bank(X, IDS))
        numbers = losses.LogRatioLoss()
        assert torch.equal(numbers(X.numpy(), IDS.double().tolist()), numbers(X, IDS.double()))
        series = losses.CPCLoss(4, 4, 2)
        assert torch.equal(series(*(each.numpy() for each in SERIES)), series(*SERIES))


@pytest.mark.parametrize(
    ("x", "ids"),
    [
        (X, list("aabbccdd")),
        (X, [{}] * 8),
        ([[1.0, 2.0], [3.0]], [0, 0]),
        (object(), IDS),
    ],
)
def test_what_cannot_be_a_tensor_is_refused_in_one_sentence(x, ids):
    with unchecked(), pytest.raises(TupletError) as error:
        losses.SupConLoss()(x, ids)
    assert error.value.hint


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_labels_of_any_whole_type_are_remembered(dtype):
    ids = (IDS % 2).to(dtype)
    loss, twin = losses.SupConLoss(queue=FeatureQueue(8, 4)), losses.SupConLoss(queue=FeatureQueue(8, 4))
    for _ in range(3):
        assert torch.equal(loss(X, ids), twin(X, IDS % 2))
        loss.advance()
        twin.advance()
    banks = [losses.InstanceDiscriminationLoss(40, 4, noise_samples=None) for _ in range(2)]
    for bank, positions in zip(banks, (ids, IDS % 2), strict=True):
        bank(X, positions)
        bank.advance()
    assert torch.equal(banks[0].bank.rows, banks[1].bank.rows)


def test_class_255_of_uint8_counts():
    ids = torch.where(IDS == 3, 255, IDS)
    for name in PAIR_LOSSES:
        assert torch.equal(losses.registry[name]()(X, ids.to(torch.uint8)), losses.registry[name]()(X, ids))
