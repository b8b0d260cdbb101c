"""Runs of words with the contexts of each, epoch after epoch."""

import itertools
import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Count, Positive
from tuplet.data import Corpus
from tuplet.losses.word_block import Contexts, WordBlock, band_of
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive

Subsample = Literal["word2vec_c", "paper", "none"]
_PART = 1 << 20  # words looked at together
_FILL = 0.98  # how full a run should be: chance makes some epochs longer than expected


def keep_probability(
    counts: NDArray[np.int64], threshold: float, formula: Subsample = "word2vec_c"
) -> Float[np.ndarray, " words"]:
    r"""With which probability an occurrence of each word stays in the text.

    With f the word's share of the text and t the threshold: $\min(1, \sqrt{t/f})$ as in the paper, or
    $\min(1, \sqrt{t/f} + t/f)$ as in the program word2vec.

    Args:
        counts: How often each word occurs.
        threshold: t > 0.
        formula: "paper", "word2vec_c", or "none" to keep everything.
    """
    if formula == "none":
        return np.ones(len(counts))
    ratio = threshold * counts.sum() / np.maximum(counts, 1)
    return np.minimum(1.0, np.sqrt(ratio) + (ratio if formula == "word2vec_c" else 0.0))


@registry.register("windows")
class WindowSampler(EpochSampler):
    """Cuts a corpus into runs of words; each epoch thins out frequent words anew and draws new windows.

    Frequent words go first, so that windows reach further where they are left out. Every word of the thinned text is
    the centre of one window; contexts reach into the neighbouring runs, but not into another text.

    Args:
        corpus: The text.
        window: Largest number of words on either side, at least 1.
        contexts: Whether a word tells its context ("skip-gram") or the context tells the word ("cbow").
        dynamic: Draw the size of each window from 1 to `window`; False always takes the largest.
        subsample: Formula by which frequent words are thinned out.
        threshold: Share of the text from which on words are frequent.
        block: Words of a run, which is one step of the optimiser; rounded up to a multiple of 32.
        shared_noise: Noise words that a run shares, if the loss shares them.
        seed: Seed of the run.
    """

    def __init__(
        self,
        corpus: Corpus,
        window: Count = 5,
        contexts: Contexts = "skip-gram",
        *,
        dynamic: bool = True,
        subsample: Subsample = "word2vec_c",
        threshold: Positive = 1e-3,
        block: Count = 256,
        shared_noise: Count = 128,
        seed: int,
    ) -> None:
        if window < 1 or block < 1 or shared_noise < 1 or not threshold > 0:
            raise ValueError(f"{window=}, {block=} and {shared_noise=} must be at least 1, {threshold=} above 0")
        self.corpus, self.window, self.contexts, self.dynamic = corpus, window, contexts, dynamic
        self.shared_noise = shared_noise
        self.band = band_of(window)
        self._keep = torch.from_numpy(keep_probability(corpus.counts, threshold, subsample))
        expected = float(self._keep @ torch.from_numpy(corpus.counts).double())
        size = -(-block // len(self.band)) * len(self.band)
        super().__init__(max(1, math.ceil(expected / (size * _FILL))), seed)

    @property
    def batch_size(self) -> int:
        """Words of the text that a run stands for, those that are thinned out among them; rounded."""
        return max(1, round(len(self.corpus) / self.batches_per_epoch))

    def plan(self, epoch: int) -> Int64[Tensor, "batches 2"]:
        """Row of each run, and where it begins in the thinned text of the epoch."""
        words, before, after = self._draw(epoch)
        count = len(words) - 2 * self.window
        edges = np.linspace(0, count, self.batches_per_epoch + 1).round().astype(np.int64)
        longest = max(1, int(np.diff(edges).max()))
        size = -(-longest // len(self.band)) * len(self.band)
        self._words = np.append(words, np.zeros(size, np.int32))
        self._before, self._after = (np.zeros((self.batches_per_epoch, size), np.int16) for _ in range(2))
        for row, (begin, end) in enumerate(itertools.pairwise(edges.tolist())):  # what fills up a run reaches nothing
            self._before[row, : end - begin] = before[begin:end]
            self._after[row, : end - begin] = after[begin:end]
        return torch.from_numpy(np.stack([np.arange(self.batches_per_epoch), edges[:-1]], axis=1))

    def take(self, batch: Int64[Tensor, "2"]) -> WordBlock:
        """The run of words that `next_batch` has just placed."""
        row, begin = batch.tolist()
        before, after = torch.from_numpy(self._before[row]), torch.from_numpy(self._after[row])
        words = self._words[begin : begin + len(before) + 2 * self.window]
        return WordBlock(torch.from_numpy(words).long(), before, after, self.band)

    def _draw(self, epoch: int) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int16]]:
        """The thinned text of an epoch, with a margin of any word on both sides, and how far each context reaches."""
        generator = derive(self.seed, "windows", epoch)
        ids, texts = self.corpus.ids, self.corpus.starts
        parts, starts, count = [], [], 0
        for begin in range(0, len(ids), _PART):
            part = torch.from_numpy(np.array(ids[begin : begin + _PART]))
            kept = torch.rand(len(part), generator=generator, dtype=torch.float64) < self._keep[part]
            ahead = count + np.concatenate([[0], kept.cumsum(0).numpy()])
            inside = texts[(texts >= begin) & (texts < begin + len(part))] - begin
            starts.append(ahead[inside])
            parts.append(part[kept].numpy())
            count = int(ahead[-1])
        edges = np.unique(np.concatenate([[0], *starts, [count]]))
        radius = np.full(count, self.window, np.int64)
        if self.dynamic:
            radius = torch.randint(1, self.window + 1, (count,), generator=generator).numpy()
        place = np.arange(count)
        sizes = np.diff(edges)
        before = np.minimum(place - np.repeat(edges[:-1], sizes), radius).astype(np.int16)
        after = np.minimum(np.repeat(edges[1:], sizes) - 1 - place, radius).astype(np.int16)
        margin = np.zeros(self.window, np.int32)
        return np.concatenate([margin, *parts, margin]), before, after
