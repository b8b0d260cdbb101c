"""What a comparison searches follows from the declaration of each loss."""

import subprocess
import sys

import pytest

from tuplet import losses
from tuplet.comparison.space import FACTORS, RATE, Past, search_space, suggest
from tuplet.errors import RecipeError
from tuplet.recipes import load_recipe
from tuplet.recipes.imported import import_losses

NEEDED = {"cpc": ["loss.steps=2"]}


def recipe(name, *changes):
    return load_recipe(
        "own-vectors", ["data.source=x.csv", f'loss={{ name = "{name}" }}', *NEEDED.get(name, ()), *changes]
    )


@pytest.mark.parametrize("name", list(losses.registry))
def test_every_loss_has_a_space_around_its_own_settings_and_within_its_bounds(name):
    asked = recipe(name)
    space = search_space(asked)
    assert space[RATE].start == asked.train.learning_rate
    for key, one in space.items():
        assert 0 < one.low <= one.start <= one.high
        assert one.high / one.low <= FACTORS.get(key, FACTORS["loss"]) ** 2 * (1 + 1e-12)
        for edge in (one.low, one.high):
            recipe(name, f"{key}={edge!r}")  # refused if it were out of bounds


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("supcon", {"temperature"}),
        ("triplet", {"margin"}),
        ("arcface", {"margin", "scale"}),
        ("multi_similarity", {"alpha", "beta", "base"}),
        ("npair", set()),
        ("siglip", set()),
    ],
)
def test_counts_choices_shares_and_what_is_switched_off_are_left_alone(name, options):
    assert set(search_space(recipe(name))) - {RATE} == {f"loss.{option}" for option in options}


def test_the_recipe_moves_the_space():
    space = search_space(recipe("triplet", "loss.margin=0.8", "train.learning_rate=0.01"))
    assert (space["loss.margin"].start, space[RATE].start) == (0.8, 0.01)


def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been():
    pytest.importorskip("optuna")
    space, past, seen = search_space(recipe("arcface")), [], []
    for number in range(6):
        chosen = suggest(space, past, 0, "arcface")
        assert chosen == suggest(space, [*past], 0, "arcface")
        assert all(
            space[key].low <= value * 1.001 and value * 0.999 <= space[key].high for key, value in chosen.items()
        )
        seen.append(chosen)
        past.append(Past(chosen, None if number == 2 else -abs(chosen["loss.margin"] - 0.3)))  # one of them diverged
    assert seen[0] == {key: one.start for key, one in space.items()}
    assert len({tuple(one.values()) for one in seen}) == 6
    assert suggest(space, past, 1, "arcface") != suggest(space, past, 0, "arcface")


def test_a_loss_of_another_library_is_trusted_explicitly_and_checks_its_options():
    pytest.importorskip("pytorch_metric_learning")
    name = "pytorch_metric_learning.losses.CircleLoss"
    with pytest.raises(RecipeError) as caught:
        import_losses([name], trust=False)
    assert caught.value.reference == "untrusted-code"
    assert name not in losses.registry
    code = (
        "from tuplet.comparison.space import search_space\n"
        "from tuplet.errors import RecipeError\n"
        "from tuplet.recipes import load_recipe\n"
        "from tuplet.recipes.imported import import_losses\n"
        f"import_losses([{name!r}, 'supcon'], trust=True)\n"
        f"asked = ['data.source=x.csv', 'loss={{ name = \"{name}\" }}']\n"
        "print(*sorted(search_space(load_recipe('own-vectors', asked))))\n"
        "try: load_recipe('own-vectors', [*asked, 'loss.gamma=-1.0'])\n"
        "except RecipeError as error: print(error.reference)\n"
    )  # in a process of its own: the registry of this one holds what tuplet declares
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"loss.gamma loss.m {RATE}", "bad-recipe"], done.stderr
