"""Pairs: what each query finds among the answers."""

import numpy as np
import torch

from tuplet.app.report.gallery import Gallery
from tuplet.app.report.neighbours import SHOWN, draw
from tuplet.app.report.shown import Hit, Query
from tuplet.engine.topk import nearness, pair_scores, topk
from tuplet.evaluation import VerificationResult, verification_from_scores
from tuplet.geometry import geometry_of
from tuplet.seeding import derive

_MOST = 5_000  # queries that are looked at for mistakes and scores


class Answers:
    """Queries of a run, with the answers they find.

    Args:
        gallery: The answers.
        questions: The queries, from `read_questions`.
        seed: Of what is drawn.
    """

    def __init__(self, gallery: Gallery, questions: tuple[Gallery, list[int]], seed: int) -> None:
        self.gallery, (self.asked, wanted), self.seed = gallery, questions, seed
        self.rows = draw(len(self.asked.ids), _MOST, seed, "questions")
        self.wanted = np.array(wanted)[self.rows]
        found = topk(self.asked.embeddings[self.rows], gallery.embeddings, SHOWN, gallery.geometry)
        self.positions, self.scores = found.positions.numpy(), found.scores.numpy()

    @property
    def mistakes(self) -> np.ndarray:
        """Queries whose nearest answer is another one, those that miss by most first."""
        wrong = np.flatnonzero(self.positions[:, 0] != self.wanted)
        best = nearness(torch.from_numpy(self.scores[wrong, 0]), self.gallery.geometry)
        own = nearness(self._own_scores(wrong), self.gallery.geometry)
        return wrong[np.argsort((own - best).numpy(), kind="stable")]

    def typical(self, count: int) -> list[Query]:
        """Some queries, sampled at random."""
        order = torch.randperm(len(self.rows), generator=derive(self.seed, "report", "typical"))
        return [self.show(row) for row in order[:count].tolist()]

    def show(self, row: int) -> Query:
        """A query with what it finds; pictures of queries come after those of the gallery."""
        at, gallery = int(self.rows[row]), self.gallery
        hits = tuple(
            Hit(position, gallery.ids[position], "", score, position == int(self.wanted[row]), gallery.text(position))
            for position, score in zip(self.positions[row].tolist(), self.scores[row].tolist(), strict=True)
            if position >= 0
        )
        return Query(len(gallery.ids) + at, self.asked.ids[at], "", hits, self.asked.text(at))

    def verify(self) -> VerificationResult:
        """Scores of queries with their own answers and with others, sampled at random."""
        others = torch.randint(
            len(self.gallery.ids), (len(self.rows),), generator=derive(self.seed, "report", "others")
        )
        is_other = others != torch.from_numpy(self.wanted)
        asked = self.asked.embeddings[self.rows][is_other]
        scores = pair_scores(asked, self.gallery.embeddings[others[is_other]], self.gallery.geometry)
        own = self._own_scores(np.arange(len(self.rows)))
        same = torch.arange(len(own) + len(scores)) < len(own)
        is_similarity = geometry_of(self.gallery.geometry).kind == "similarity"
        return verification_from_scores(
            torch.cat([own, scores]), same, larger_is_same=is_similarity, bootstrap=0, seed=self.seed
        )

    def _own_scores(self, rows: np.ndarray) -> torch.Tensor:
        asked = self.asked.embeddings[self.rows[rows]]
        return pair_scores(asked, self.gallery.embeddings[self.wanted[rows]], self.gallery.geometry)
