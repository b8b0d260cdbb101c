import numpy as np
import pytest
import torch

from tuplet.data import Corpus
from tuplet.errors import CheckpointError
from tuplet.sampling import WindowSampler
from tuplet.sampling.windows import keep_probability


def make(count=5000, vocabulary=40, starts=(0,), seed=0):
    random = np.random.default_rng(seed)
    ids = np.minimum(random.zipf(1.5, count) - 1, vocabulary - 1).astype(np.int32)
    counts = np.bincount(ids, minlength=vocabulary)
    return Corpus(tuple(map(str, range(vocabulary))), counts, ids, np.array(starts), count, "memory")


def epoch(sampler):
    return [sampler.take(sampler.next_batch()) for _ in range(sampler.batches_per_epoch)]


def pairs(blocks, window):
    """Centre and context of each pair, in the order of the text."""
    found = []
    for block in blocks:
        words = block.words.tolist()
        for row, (before, after) in enumerate(zip(block.before.tolist(), block.after.tolist(), strict=True)):
            here = row + window
            found += [(words[here], words[at]) for at in range(here - before, here + after + 1) if at != here]
    return found


def test_the_formulas_keep_what_they_say():
    counts = np.array([9000, 900, 90, 10])
    share = counts / 10000
    paper, program = (keep_probability(counts, 0.01, name) for name in ("paper", "word2vec_c"))
    np.testing.assert_allclose(paper, np.minimum(1, np.sqrt(0.01 / share)), rtol=1e-14)
    np.testing.assert_allclose(program, np.minimum(1, np.sqrt(0.01 / share) + 0.01 / share), rtol=1e-14)
    assert keep_probability(counts, 0.01, "none").tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("block", [32, 100])
@pytest.mark.parametrize("starts", [(0,), (0, 1, 2, 700, 4999)])
def test_full_windows_hold_every_pair_of_a_text_once(block, starts):
    corpus, window = make(starts=starts), 3
    sampler = WindowSampler(corpus, window, dynamic=False, subsample="none", block=block, seed=1)
    expected = []
    for begin, end in zip(starts, [*starts[1:], len(corpus)], strict=True):
        text = corpus.ids[begin:end].tolist()
        for here, word in enumerate(text):
            around = range(max(0, here - window), min(len(text), here + window + 1))
            expected += [(word, text[at]) for at in around if at != here]
    assert pairs(epoch(sampler), window) == expected


def test_windows_are_as_often_of_each_size():
    sampler = WindowSampler(make(), 4, subsample="none", seed=0)
    reach = torch.cat([block.before for block in epoch(sampler)])
    sizes = torch.bincount(reach[reach > 0].long(), minlength=5)[1:] / 5000
    torch.testing.assert_close(sizes, torch.full((4,), 0.25), rtol=0, atol=0.03)


@pytest.mark.parametrize("formula", ["paper", "word2vec_c"])
def test_frequent_words_go_before_windows_are_laid(formula):
    corpus = make(200_000)
    sampler = WindowSampler(corpus, 1, dynamic=False, subsample=formula, threshold=1e-2, block=1000, seed=0)
    found = pairs(epoch(sampler), 1)
    centres = np.bincount([centre for centre, _ in found], minlength=40) / 2
    expected = keep_probability(corpus.counts, 1e-2, formula) * corpus.counts
    np.testing.assert_allclose(centres, expected, atol=6 * np.sqrt(expected.max()))
    assert abs(len(found) / 2 - centres.sum()) < 2  # no centre lost its context with the words beside it


def test_epochs_differ_and_a_resumed_sampler_goes_on_with_the_same():
    corpus = make()
    sampler, twin = (WindowSampler(corpus, 5, block=64, seed=3) for _ in range(2))
    first = pairs(epoch(sampler), 5)
    for _ in range(7):
        sampler.next_batch()
    twin.load_state_dict(sampler.state_dict())
    rest = [pairs([one.take(one.next_batch()) for _ in range(200)], 5) for one in (sampler, twin)]
    assert rest[0] == rest[1]
    assert first != pairs(epoch(WindowSampler(corpus, 5, block=64, seed=4)), 5)
    with pytest.raises(CheckpointError):
        WindowSampler(corpus, 5, block=64, seed=4).load_state_dict(sampler.state_dict())


@pytest.mark.parametrize("count", [1, 2, 33])
def test_tiny_texts_work(count):
    corpus = make(count, vocabulary=3)
    blocks = epoch(WindowSampler(corpus, 5, subsample="none", dynamic=False, block=32, seed=0))
    assert len(pairs(blocks, 5)) == sum(min(at, 5) + min(count - 1 - at, 5) for at in range(count))
