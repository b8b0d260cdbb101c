"""Batches of classes that are hard to tell apart, for N-pair losses."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Bounds, Count, Number, Share
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import all_gather
from tuplet.engine.topk import pair_scores
from tuplet.geometry import normalise
from tuplet.sampling.class_shuffler import ClassShuffler
from tuplet.sampling.epoch import Sampler, registry
from tuplet.seeding import derive
from tuplet.tensors import as_tensor

Score = Literal["max", "sum"]
Ties = Literal["lowest", "random"]
Ids = NDArray[np.int64]


@registry.register("hard-classes")
class HardClassSampler(Sampler):
    r"""Two examples of each of N classes that lie close to each other, chosen greedily (hard negative class mining).

    Each batch draws candidates at random and begins with a random one. Then the candidate joins that comes closest to
    the classes chosen so far, measured against how close their own positives are:

    $$v(c) = \max_{i \in S} (u_i \cdot u_c - a_i)$$

    u is the running mean of a class's embeddings and a the running similarity of its positives. Both come from the
    steps of the training (`observe`), so nothing is embedded for them. A class that was never seen has neither: such
    candidates are taken as often as a random draw would take them.

    Epochs are as long as those of `PerClassSampler`. They consist of rounds, and a round draws every class once: the
    choice narrows towards its end, where the easy classes are left. The examples of a class stand together.

    Args:
        labels: Class id of each example; examples with a negative id, and classes with one example, are left out.
        dim: Length of an embedding.
        classes_per_batch: N, at least 1.
        candidates: Classes that each batch chooses from, at least N; N chooses at random. 0: four times N.
        per_class: Examples of each chosen class, at least 2. With 2, `NPairLoss` is trained on pairs: the first is the
            anchor, the second its positive.
        score: "max" over the chosen classes, as above, or their "sum".
        ties: Which of equally hard candidates joins: the one with the "lowest" id, or a "random" one.
        momentum: Share of the old mean that stays when a class is seen again, in [0, 1).
        geometry: "dot" takes embeddings as they are; "cosine" at length 1, for losses that do.
        seed: Seed of the run.
        groups: Group id of each example; the examples of a draw come from different groups as far as possible.

    Attributes:
        left_out: Ids of the classes that are left out.

    Raises:
        DataError: There are fewer classes than N, or none with two examples.

    References:
        Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016, section 3.2.
    """

    keeps_classes_together: ClassVar[bool] = True

    def __init__(
        self,
        labels: Int64[Tensor, " examples"],
        dim: Count,
        classes_per_batch: Count,
        candidates: Number = 0,
        per_class: Annotated[int, Bounds(least=2)] = 2,
        score: Score = "max",
        ties: Ties = "lowest",
        momentum: Share = 0.5,
        geometry: Literal["dot", "cosine"] = "dot",
        *,
        seed: int,
        groups: Int64[Tensor, " examples"] | None = None,
    ) -> None:
        if per_class < 2 or not 0 <= momentum < 1:
            raise ValueError(f"{per_class=} should be 2 or more, and {momentum=} from 0 to less than 1")
        if 0 < candidates < classes_per_batch:
            raise ValueError(f"{candidates=} should be at least {classes_per_batch=}, or 0")
        self._shuffler = ClassShuffler(labels, per_class, classes_per_batch, seed=seed, groups=groups)
        self.left_out = self._shuffler.left_out
        classes = len(self._shuffler.counts)
        super().__init__(-(-classes * self._shuffler.rounds // classes_per_batch), seed, together=per_class)
        self._size, self._candidates = classes_per_batch, candidates or 4 * classes_per_batch
        self._score, self._ties, self._momentum, self._geometry = score, ties, momentum, geometry
        self._means = torch.zeros(classes, dim)
        self._positives = torch.zeros(classes)
        self._seen = torch.zeros(classes, dtype=torch.bool)
        self._waiting = torch.ones(classes, dtype=torch.bool)  # for their turn in this round
        self._sampled = torch.zeros(classes, dtype=torch.int64)

    @property
    def batch_size(self) -> int:
        """Positions in a batch."""
        return self._size * self.together

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch, chosen by what was observed so far."""
        generator = derive(self.seed, "sampler", epoch, batch)
        if batch == 0:
            self._waiting[:] = True
        chosen = self._choose(generator)
        cycles, chunks = np.divmod(self._sampled.numpy()[chosen], self._shuffler.chunks_per_cycle[chosen])
        self._sampled[chosen] += 1
        return torch.from_numpy(self._shuffler.take(chosen, cycles, chunks).reshape(-1))

    def observe(
        self,
        positions: Int64[Tensor, " batch"] | list[int],
        embeddings: Float[Tensor, "rows dim"],
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        """Moves the means of the classes of a batch towards their latest embeddings; see `Sampler.observe`."""
        positions = as_tensor(positions, "positions")  # those of an iteration are a list
        x = all_gather(embeddings.detach(), processes).to("cpu", torch.float64)
        x = normalise(x) if self._geometry == "cosine" else x
        classes = torch.from_numpy(self._shuffler.class_of[positions[:: self.together].cpu().numpy()])
        chunks = x.view(len(classes), self.together, -1)
        pairs = self.together * (self.together - 1)  # in both orders
        positives = (chunks.sum(1).square().sum(1) - chunks.square().sum((1, 2))) / pairs
        kept = self._momentum * self._seen[classes].double()
        for running, latest in ((self._means, chunks.mean(1)), (self._positives, positives)):
            share = kept.view(-1, *(1,) * (latest.ndim - 1))
            running[classes] = (share * running[classes] + (1 - share) * latest).float()
        self._seen[classes] = True

    def memory(self) -> dict[str, Tensor]:
        """Running embeddings, and whose turn it is."""
        return {
            "means": self._means,
            "positives": self._positives,
            "seen": self._seen,
            "waiting": self._waiting,
            "drawn": self._sampled,
        }

    def _choose(self, generator: torch.Generator) -> Ids:
        """Classes of the next batch; they are no longer waiting."""
        waiting = self._waiting.numpy()
        last = np.flatnonzero(waiting)
        if len(last) <= self._size:  # all that is left of the round joins; the next round begins
            waiting[:] = True
        else:
            last = last[:0]
        open_ = np.setdiff1d(np.flatnonzero(waiting), last, assume_unique=True)
        sampled = torch.randperm(len(open_), generator=generator)[: self._candidates].numpy()
        chosen = choose(
            *(self._means, self._positives, self._seen, open_[sampled], last, self._size),
            score=self._score,
            ties=self._ties,
            generator=generator,
        )
        waiting[chosen[len(last) :]] = False
        return chosen


def choose(
    means: Float[Tensor, "classes dim"],
    positives: Float[Tensor, " classes"],
    seen: Bool[Tensor, " classes"],
    candidates: Ids,
    chosen: Ids,
    size: int,
    *,
    score: Score = "max",
    ties: Ties = "lowest",
    generator: torch.Generator,
) -> Ids:
    """Fill a batch up with the hardest of the candidates, one after the other; O(size · candidates · dim).

    Args:
        means: u, of all classes.
        positives: a.
        seen: Whether a class has them.
        candidates: Ids of the classes to choose from.
        chosen: Ids of the classes that are in the batch already.
        size: Classes of the batch; no more than there are.
        score: See `HardClassSampler`.
        ties: See `HardClassSampler`.
        generator: Decides where to begin, when an unseen class joins, and random ties.

    Returns:
        `chosen` and, in the order in which they joined, those that were added.
    """
    ids = np.sort(candidates)
    u, known = means[ids].double(), seen[ids].numpy()
    value = np.full(len(ids), -np.inf if score == "max" else 0.0)
    is_open = np.ones(len(ids), bool)
    batch = chosen.tolist()
    begun = [one for one in batch if seen[one]]
    for one in begun:
        value = _harder(value, u, means[one], positives[one], score)
    while len(batch) < size:
        unseen, rivals = np.flatnonzero(is_open & ~known), np.flatnonzero(is_open & known)
        at = _below(len(unseen) + len(rivals), generator)
        if at < len(unseen):
            place = unseen[at]
        elif not begun:
            place = rivals[at - len(unseen)]
        else:
            level = rivals[value[rivals] == value[rivals].max()]  # in order of id
            place = level[_below(len(level), generator) if ties == "random" else 0]
        one = int(ids[place])
        is_open[place] = False
        batch.append(one)
        if seen[one]:
            begun.append(one)
            value = _harder(value, u, means[one], positives[one], score)
    return np.array(batch, np.int64)


def _harder(value: NDArray[np.float64], u: Tensor, mean: Tensor, positive: Tensor, score: Score) -> NDArray[np.float64]:
    """The score of each candidate when one more class is in the batch; equal candidates get equal scores."""
    added: NDArray[np.float64] = (pair_scores(u, mean.double().expand_as(u), "dot") - positive.double()).numpy()
    return np.maximum(value, added) if score == "max" else value + added


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
