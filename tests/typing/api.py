"""Type-checked by `make check`, never run: the types of the public names are under test as well."""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

import tuplet
from tuplet.engine import Outcome
from tuplet.evaluation import RetrievalResult
from tuplet.losses import InfoNCELoss, MultiSimilarityLoss, NCALoss, SupConLoss, TripletLoss, info_nce


def a_loss_is_a_module_whose_call_is_a_tensor(embeddings: Tensor, labels: Tensor) -> None:
    loss = SupConLoss(temperature=0.1)
    assert_type(loss.forward(embeddings, labels), Tensor)  # torch types the call of a module as Any
    assert_type(loss.measure(embeddings, labels), Outcome)
    assert_type(loss.measure(embeddings, labels).value, Tensor)
    module: torch.nn.Module = TripletLoss(select="semihard")
    module.train()


def a_function_takes_tensors(anchors: Tensor, references: Tensor) -> None:
    assert_type(info_nce(anchors, references, temperature=0.1, symmetric=True), Tensor)
    InfoNCELoss(temperature="learned")


def a_wrong_choice_is_found_before_anything_runs() -> None:
    TripletLoss(select="hardest")  # type: ignore[arg-type]
    InfoNCELoss(geometry="manhattan")  # type: ignore[arg-type]
    NCALoss(geometry="manhattan")  # type: ignore[arg-type]
    MultiSimilarityLoss(gamma=2.0)  # type: ignore[call-arg]
    MultiSimilarityLoss(2.0, queue=32)  # type: ignore[arg-type]


def a_declared_loss_has_the_constructor_that_it_declares() -> None:
    assert_type(MultiSimilarityLoss(2.0, beta=40.0, epsilon=0.1).alpha, float)
    NCALoss(scale=2.0, geometry="cosine", queue=None)


def evaluation_returns_numbers_with_intervals(embeddings: Tensor, labels: Tensor) -> None:
    assert_type(tuplet.evaluation.retrieval(embeddings, labels), RetrievalResult)


def an_embedder_turns_items_into_rows(folder: Path) -> None:
    embedder = tuplet.Embedder.load(folder)
    assert_type(embedder, tuplet.Embedder)
    assert_type(embedder.embed(["a.png", "b.png"]), Tensor)


def an_error_says_what_to_do(error: tuplet.DataError) -> None:
    assert_type(error.hint, str)
    assert_type(error.exit_code, int)
