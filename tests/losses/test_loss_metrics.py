"""Statistics against counts over the whole matrix."""

import pytest
import torch

from tuplet.losses import (
    ContrastiveLoss,
    CosFaceLoss,
    CPCLoss,
    InstanceDiscriminationLoss,
    LogRatioLoss,
    NCELoss,
    NPairLoss,
    SupConLoss,
    TripletLoss,
    loss_metrics,
)


def batch():
    """Embeddings of four classes, one of them with a single example, and two rows without a label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, -1, -1])
    return torch.randn(len(labels), 6, generator=generator, dtype=torch.float64), labels


def pairs(labels):
    known = (labels[:, None] >= 0) & (labels >= 0)
    known &= ~torch.eye(len(labels), dtype=torch.bool)
    same = known & (labels[:, None] == labels)
    return same, known & ~same


@pytest.mark.parametrize("tile_size", [1, 10**6])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_scores_are_means_before_the_scale(temperature, tile_size):
    x, labels = batch()
    found = loss_metrics(SupConLoss(temperature=temperature).measure(x, labels, tile_size=tile_size).stats)
    same, different = pairs(labels)
    unit = torch.nn.functional.normalize(x, dim=1)
    scores = unit @ unit.T
    assert found["positive_score"] == pytest.approx(scores[same].mean().item())
    assert found["negative_score"] == pytest.approx(scores[different].mean().item())
    assert found.get("temperature", 1.0) == pytest.approx(temperature)
    assert found["without_positives_share"] == pytest.approx(
        1 / 9
    )  # the class with one example, of all that are labelled
    assert found["norm"] == pytest.approx(x.norm(dim=1).mean().item())


def test_shares_of_triplets_are_those_of_a_count():
    x, labels = batch()
    found = loss_metrics(TripletLoss(margin=0.5, geometry="euclidean").measure(x, labels).stats)
    same, different = pairs(labels)
    apart = torch.cdist(x, x)
    triplets = [
        (float(apart[a, p]), float(apart[a, n]))
        for a in range(len(x))
        for p in same[a].nonzero()[:, 0]
        for n in different[a].nonzero()[:, 0]
    ]
    count = len(triplets)
    assert found["active_share"] == pytest.approx(sum(near + 0.5 > far for near, far in triplets) / count)
    assert found["easy_share"] == pytest.approx(sum(near + 0.5 < far for near, far in triplets) / count)
    assert found["hard_share"] == pytest.approx(sum(far < near for near, far in triplets) / count)
    assert sum(found[f"{kind}_share"] for kind in ("easy", "semihard", "hard")) == pytest.approx(1)
    assert "temperature" not in found


@pytest.mark.parametrize("mean_over", ["all", "active", "anchors"])
def test_active_pairs_are_counted_whatever_the_mean_divides_by(mean_over):
    x, labels = batch()
    loss = ContrastiveLoss(margin=2.0, mean_over=mean_over)
    found = loss_metrics(loss.measure(x, labels).stats)
    same, different = pairs(labels)
    apart = torch.cdist(x, x)
    active = ((apart > 0) & same) | ((apart < 2.0) & different)
    assert found["active_share"] == pytest.approx((active.sum() / (same | different).sum()).item())
    assert loss.measure(x, labels, stats=False).stats == {}


def test_weighted_classes_have_the_temperature_of_their_scale():
    x, labels = batch()
    known = labels >= 0
    found = loss_metrics(CosFaceLoss(num_classes=4, dim=6, scale=16.0).measure(x[known].float(), labels[known]).stats)
    assert found["temperature"] == pytest.approx(1 / 16)
    assert -1 <= found["positive_score"] <= 1


def test_words_have_scores_without_bias_and_noise_level():
    x, _ = batch()
    counts, targets = torch.arange(1, 8), torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, -1, 1, 2])
    weights = torch.arange(len(x), dtype=torch.float64)
    for shared in (False, True):
        loss = NCELoss(counts, 6, 5, shared_noise=shared).double()
        torch.nn.init.normal_(loss.weight, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(loss.bias, generator=torch.Generator().manual_seed(2))
        noise = loss.draw(len(x)).expand(len(x), 5)
        found = loss_metrics(loss.measure(x, targets, weights=weights).stats)
        scores, known = x @ loss.weight.detach().T, targets != -1
        heavy = weights[known]
        wanted = scores.gather(1, targets.clamp_min(0)[:, None])[known, 0]
        assert found["positive_score"] == pytest.approx(float((heavy * wanted).sum() / heavy.sum()))
        sampled = scores.gather(1, noise)[known].mean(1)
        assert found["negative_score"] == pytest.approx(float((heavy * sampled).sum() / heavy.sum()))
        assert found.keys() == {"positive_score", "negative_score", "norm"}


def test_instances_have_the_cosines_of_their_own_rows_and_of_noise():
    x, _ = batch()
    positions = torch.arange(len(x)).roll(1).where(torch.arange(len(x)) > 1, -1)
    loss = InstanceDiscriminationLoss(len(x), 6, temperature=0.2, noise_samples=7).double()
    bank, noise, known = loss.bank.rows.clone(), loss.draw(positions), positions != -1
    found = loss_metrics(loss.measure(x, positions).stats)
    cosines = torch.nn.functional.normalize(x, dim=1) @ bank.T
    assert found["positive_score"] == pytest.approx(float(cosines[known, positions[known]].mean()))
    assert found["negative_score"] == pytest.approx(float(cosines.gather(1, noise)[known].mean()))
    assert found["temperature"] == pytest.approx(0.2)


def test_latents_of_one_time_have_scores_of_the_next_and_of_other_sequences():
    generator = torch.Generator().manual_seed(3)
    latents, contexts = (torch.randn(4, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    lengths = torch.tensor([5, 2, 4, 0])
    loss = CPCLoss(3, 3, 2).double()
    same, others = [], []
    for k in (1, 2):
        for n in range(4):
            for t in range(int(lengths[n]) - k):
                scores = latents[:, t + k] @ (loss.maps[k - 1].detach() @ contexts[n, t])
                same.append(scores[n])
                others += [scores[j] for j in range(4) if j != n and lengths[j] > t + k]
    found = loss_metrics(loss.measure(latents, contexts, lengths=lengths).stats)
    assert found["positive_score"] == pytest.approx(float(torch.stack(same).mean()))
    assert found["negative_score"] == pytest.approx(float(torch.stack(others).mean()))


def test_tuplets_have_scores_of_their_own_negatives():
    generator = torch.Generator().manual_seed(4)
    x, positives = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    negatives = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    found = loss_metrics(NPairLoss().measure(x, references=positives, negatives=negatives).stats)
    assert found["positive_score"] == pytest.approx(float((x * positives).sum(1).mean()))
    assert found["negative_score"] == pytest.approx(float(torch.einsum("bd,bnd->bn", x, negatives).mean()))


def test_graded_labels_have_no_positive_that_an_anchor_could_lack():
    x, _ = batch()
    found = loss_metrics(LogRatioLoss().measure(x, torch.arange(len(x)).double()).stats)
    apart = torch.cdist(x, x).square()
    assert found["negative_score"] == pytest.approx((apart.sum() / (len(x) * (len(x) - 1))).item())
    assert found.keys() == {"negative_score", "norm"}
