"""A metric learned from rows and classes, as an estimator of scikit-learn."""

import copy
import inspect
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor, nn

from tuplet.bounds import Count, Positive, check
from tuplet.data.transforms import VectorPreprocessing
from tuplet.errors import RecipeError
from tuplet.losses import registry
from tuplet.models import Embedder, build_encoder
from tuplet.sampling import PerClassSampler

BATCH = 512
"""Up to so many rows are one batch."""

PER_CLASS = 4

_KINDS: dict[str, Any] = {"dim": Count, "steps": Count, "n_neighbors": Count, "learning_rate": Positive}


class MetricEmbedding(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn ships no types
    TransformerMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Embeds rows so that those of a class lie near each other; classifies by nearest neighbours there.

    It fits into pipelines and grids like any estimator: `make_pipeline(MetricEmbedding(), LogisticRegression())`.
    Columns are centred and scaled inside. Training is deterministic for one `random_state`.

    Args:
        loss: Any registered loss that takes class ids, such as "supcon", "multi_similarity", "triplet" or "arcface".
        loss_options: Its options, such as `{"temperature": 0.2}`.
        dim: Length of an embedding.
        hidden: Widths of the layers of the network.
        steps: Optimiser steps.
        learning_rate: Of AdamW, falling to 0 by half a cosine.
        n_neighbors: How many training rows vote in `predict`.
        device: Where to train.
        random_state: Seed of weights and batches.

    Attributes:
        classes_: Names of the classes.
        embedder_: The trained `tuplet.models.Embedder`; its `save` writes a model for `tuplet search` and the rest.
        network_: Its encoder in float64, which `transform` runs.
        neighbors_: The classifier over the embeddings of the training rows.
        n_features_in_: How many columns a row has.
    """

    def __init__(
        self,
        *,
        loss: Any = "supcon",  # scikit-learn wants a constructor that takes anything; `fit` checks
        loss_options: Any = None,
        dim: Any = 32,
        hidden: Any = (256,),
        steps: Any = 300,
        learning_rate: Any = 3e-3,
        n_neighbors: Any = 5,
        device: Any = "cpu",
        random_state: Any = None,
    ) -> None:
        self.loss = loss
        self.loss_options = loss_options
        self.dim = dim
        self.hidden = hidden
        self.steps = steps
        self.learning_rate = learning_rate
        self.n_neighbors = n_neighbors
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # scikit-learn's name
        """Train on rows (n, columns) and their classes (n,).

        Raises:
            ValueError: If rows or classes are not what scikit-learn calls so.
            RecipeError: If the loss takes something else than class ids.
        """
        for name, kind in _KINDS.items():
            check(name, getattr(self, name), kind)
        rows, names = validate_data(self, X, y)
        check_classification_targets(names)
        self.classes_, labels = np.unique(names, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"A metric needs two classes or more to tell apart; there is {len(self.classes_)} class.")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs = torch.from_numpy(np.asarray(rows, np.float64))
        preprocessing = VectorPreprocessing().fit(inputs)
        config = {"name": "mlp", "in_dim": rows.shape[1], "dim": self.dim, "hidden": self.hidden, "norm": "layer"}
        loss = self._loss(len(self.classes_))
        self.embedder_ = Embedder(
            build_encoder(config, seed=seed), preprocessing, encoder_config=config, geometry=loss.geometry
        )
        self._train(loss, preprocessing(inputs), torch.from_numpy(labels.astype(np.int64)), seed)
        self._n_features_out = self.dim
        # Neighbours do not depend on how many rows are asked for at once, up to the last bits of float64.
        self.network_ = copy.deepcopy(self.embedder_.encoder).double()
        metric = "cosine" if loss.geometry == "cosine" else "euclidean"
        self.neighbors_ = KNeighborsClassifier(min(self.n_neighbors, len(rows)), metric=metric, algorithm="brute")
        self.neighbors_.fit(self._embedded(rows), names)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:  # as above
        """Embeddings of rows, (n, dim); of length one where the loss compares by cosine."""
        check_is_fitted(self)
        return self._embedded(validate_data(self, X, reset=False))

    def predict(self, X: Any) -> NDArray[Any]:  # as above
        """Class of each row, by the vote of its nearest training rows."""
        check_is_fitted(self)
        found: NDArray[Any] = self.neighbors_.predict(self.transform(X))
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # as above
        """Share of each class among the nearest training rows, (n, classes)."""
        check_is_fitted(self)
        found: NDArray[np.float64] = self.neighbors_.predict_proba(self.transform(X))
        return found

    def _loss(self, classes: int) -> Any:
        constructor = registry[self.loss]
        if constructor.supervision != "class":
            raise RecipeError(
                f"The loss {self.loss!r} takes no class ids.",
                hint="Use one of those for classes, such as supcon, multi_similarity, triplet or arcface.",
                reference="missing-labels",
            )
        known = inspect.signature(constructor).parameters
        sizes = {"num_classes": classes, "dim": self.dim}
        own = {name: size for name, size in sizes.items() if name in known}
        return constructor(**(own | (self.loss_options or {})))

    def _train(self, loss: Any, inputs: Tensor, labels: Tensor, seed: int) -> None:
        """A loop as anybody would write it."""
        device = torch.device(self.device)
        encoder: nn.Module = self.embedder_.encoder.to(device).train()
        loss, inputs, labels = loss.to(device), inputs.float().to(device), labels.to(device)
        learned = [*encoder.parameters(), *loss.parameters()]
        optimizer = torch.optim.AdamW(learned, lr=self.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.steps))
        sampler = _sampler(labels.cpu(), seed) if len(inputs) > BATCH else None
        for _ in range(self.steps):
            chosen = slice(None) if sampler is None else sampler.next_batch().to(device)
            optimizer.zero_grad()
            loss(encoder(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            loss.advance()
        encoder.cpu().eval()

    def _embedded(self, rows: Any) -> NDArray[np.float64]:
        inputs = self.embedder_.preprocessing(torch.from_numpy(np.asarray(rows, np.float64)))
        with torch.no_grad():
            found = self.network_(inputs.double())
            found = nn.functional.normalize(found, dim=1) if self.embedder_.geometry == "cosine" else found
        embeddings: NDArray[np.float64] = found.numpy()
        return embeddings


def _sampler(labels: Tensor, seed: int) -> PerClassSampler:
    several = int((torch.bincount(labels) > 1).sum())
    return PerClassSampler(labels, max(1, min(BATCH // PER_CLASS, several)), PER_CLASS, seed=seed)
