"""From the one class of a declared loss come its constructor, its function, its recipe options and its docstrings."""

import copy
import inspect
import pickle
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from battery.setups import batch, build
from tuplet import losses
from tuplet.bounds import Positive
from tuplet.engine import Execution
from tuplet.engine.program import Mean, count, largest, total
from tuplet.errors import ShapeError
from tuplet.losses import DeclaredLoss, FeatureQueue, PairLoss, registry
from tuplet.recipes.options import SLOTS, schema_of

X = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(12) % 4
SLOT = next(slot for slot in SLOTS if slot.path == ("loss",))
DECLARED = [name for name in registry if issubclass(registry[name], DeclaredLoss)]
declared = pytest.mark.parametrize("name", DECLARED)


class Spread(PairLoss):
    """Mean score of the negatives.

    Args:
        power: Of each score.
        kind: Which scores.
    """

    power: Literal[1, 2] = 1
    kind: Literal["all", "positive"] = "all"
    fixed_geometry: ClassVar = "cosine"

    def terms(self, score, pair):
        score = score**self.power
        score = score.clamp_min(0) if self.kind == "positive" else score
        return {"sum": total(torch.where(pair.negative, score, 0.0)), "count": count(pair.negative)}

    def finish(self, found):
        return Mean(found["sum"], found["count"])


spread = Spread.function()


def test_a_declaration_is_a_module_and_a_function():
    unit = torch.nn.functional.normalize(X)
    cosines = (unit @ unit.T)[IDS[:, None] != IDS]
    torch.testing.assert_close(Spread()(X, IDS), cosines.mean())
    torch.testing.assert_close(spread(X, IDS, power=2), cosines.square().mean())
    torch.testing.assert_close(spread(X, IDS, kind="positive"), cosines.clamp_min(0).mean())
    outcome = Spread(2, "positive").measure(X, IDS, stats=False)
    torch.testing.assert_close(outcome.value, cosines.square().mean())
    assert outcome.count == len(cosines)


def test_a_wrong_option_is_refused_by_module_and_function():
    for call in (Spread, lambda **options: spread(X, IDS, **options)):
        with pytest.raises(ShapeError, match="power"):
            call(power=3)
        with pytest.raises(TypeError, match="strength"):
            call(strength=1)


def test_an_option_that_is_not_described_is_refused():
    with pytest.raises(TypeError, match="scale"):

        class Silent(PairLoss):
            """Says nothing of its options."""

            scale: Positive = 1.0


@declared
def test_the_function_has_the_options_of_the_module_and_describes_each(name):
    module, function = registry[name], getattr(losses, name)
    asked = inspect.signature(module).parameters
    options = [key for key in asked if key not in module.of_module]
    found = inspect.signature(function).parameters
    assert [*found][: len(module.inputs)] == [*module.inputs]
    by_keyword = [key for key in found if found[key].kind is inspect.Parameter.KEYWORD_ONLY]
    assert by_keyword == [*options, *module.keyword_inputs]
    for key in {*options} - {*module.learnable, *module.of_function}:
        assert found[key].default == asked[key].default
    for thing in (module, function):
        text = inspect.getdoc(thing)
        assert [key for key in inspect.signature(thing).parameters if f"    {key}: " not in text] == []
        assert text.count("Args:") == text.count("References:") == 1
    assert "Returns:" in inspect.getdoc(function)
    assert (function.__module__, function.__name__) == (module.__module__, name)


@declared
def test_recipes_know_the_options(name):
    fields = schema_of(SLOT, name).model_fields
    assert {*fields} == {"name", *inspect.signature(registry[name]).parameters} - SLOT.given


@declared
def test_a_declared_loss_can_be_copied_and_pickled(name):
    loss, given = build(name), batch(name)
    value = loss(*given.tensors, **given.given)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301  # what this test wrote
        assert isinstance(other, registry[name])
        assert torch.equal(other(*given.tensors, **given.given), value)


def test_a_queue_is_a_module_of_the_loss():
    loss = losses.NCALoss(queue=FeatureQueue(8, 4))
    loss(X.clone().requires_grad_(), IDS)
    loss.advance()
    assert isinstance(loss.queue.filled()[0], Tensor)
    assert len(loss.state_dict())


@pytest.mark.parametrize("engine", ["panels", "tiles"])
@pytest.mark.parametrize("kind", ["plain", "local", "extremes", "whole rows", "columns"])
def test_no_row_function_meets_zero_rows(engine, kind):
    met = []

    class Watched(PairLoss):
        """Mean score of the negatives."""

        fixed_geometry = "cosine"
        local = kind == "local"
        extremes = kind == "extremes"
        means = 2 if kind == "columns" else 1
        whole_rows = kind == "whole rows"

        def terms(self, score, pair):
            met.append(score.numel())
            if kind == "extremes":
                return {"nearest": largest(score, where=pair.negative), "count": count(pair.negative)}
            found = {"loss": total(score, where=pair.negative), "count": count(pair.negative)}
            column = total(score, "column", where=pair.negative)
            return {**found, "column": column} if kind == "columns" else found

        def then(self, score, pair, found):
            met.append(score.numel())
            return {"again": total(score - found["loss"], where=pair.negative)} if kind == "whole rows" else {}

        def finish(self, found):
            met.append(len(found["count"]))
            if kind == "extremes":
                valid = found["count"] > 0
                return Mean(torch.where(valid, found["nearest"], 0.0), valid)
            rows = Mean(found["loss"], found["count"])
            return (
                (rows, Mean(found["column"], torch.ones_like(found["column"]), "column")) if kind == "columns" else rows
            )

    loss = Watched()
    loss.execution = Execution(engine=engine, compiled=False) if engine == "tiles" else None
    for rows in (0, 1, 4):
        for references in (None, 0, 3):
            x = X[:rows].clone().requires_grad_()
            second = {} if references is None else {"references": X[:references], "reference_labels": IDS[:references]}
            loss(x, IDS[:rows], **second).backward()
            assert torch.isfinite(x.grad).all()
    assert met
    assert 0 not in met
