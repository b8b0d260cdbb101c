"""Recipes are read, extended, overridden, and refused with all their mistakes at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import RecipeError
from tuplet.recipes import dump_recipe, load_recipe, preset_names, preset_text

SMALL = """
[data]
source = "images"
[model]
encoder = "conv-small"
[loss]
name = "triplet"
select = "batch_hard"
[batch]
name = "per-class"
classes_per_batch = 8
per_class = 4
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def refused(source, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)
    assert caught.value.hint
    return caught.value


def test_what_a_recipe_leaves_out_has_defaults(recipe):
    loaded = load_recipe(recipe)
    assert (loaded.name, loaded.seed, loaded.model.dim) == ("small", 0, 128)
    assert loaded.model.preprocessing.name == "auto"
    assert loaded.loss.margin == 0.2
    assert loaded.evaluate.top == (1, 5, 10)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_recipe_and_survives_being_written_down(name, tmp_path):
    written = dump_recipe(load_recipe(name, ["data.source=glyphs"]))
    again = tmp_path / f"{name}.toml"
    again.write_text(written)
    assert dump_recipe(load_recipe(again)) == written
    assert preset_text(name).startswith("#"), "a preset says what it is for"


def test_all_mistakes_are_reported_at_once_with_place_value_and_remedy(recipe):
    overrides = [
        "loss.margn=0.4",
        "loss.margin=true",
        "loss.seed=3",
        "train.steps=many",
        "train.clip=-1",
        "train.augment.name=affine",
        "train.augment.rotat=1",
        "batch.name=per-clas",
        "modle.dim=3",
        'model.encoder.width=[1, "a"]',
        "data.split.by=clas",
    ]
    message = refused(recipe, *overrides).message
    for line in [
        "has 10 mistakes",
        "loss.margn = 0.4: unknown. Did you mean 'margin'?",
        "loss.margin = true: should be a valid number",
        "loss.seed = 3: is taken from the data or from another section; delete it",
        'train.steps = "many": should be a valid integer',
        "train.clip = -1: should be a number above 0",
        "train.augment.rotat = 1: unknown. Did you mean 'rotate'",
        "batch.name: There is no sampler called 'per-clas'. Did you mean 'per-class'",
        "modle = a table: unknown. Did you mean 'model'?",
        'model.encoder.width.1 = "a": should be a valid integer',
        "data.split.by = \"clas\": should be 'class' or 'row'",
    ]:
        assert line in message


def test_an_option_that_takes_one_of_two_types_is_one_mistake(recipe):
    message = refused(recipe, "loss=supcon", "loss.temperature=warm").message
    assert message.count("\n") == 1
    assert "loss.temperature = \"warm\": should be a valid number or should be 'learned'" in message


def test_missing_parts_are_named(tmp_path):
    (tmp_path / "empty.toml").write_text("[model]\ndim = 3\n[loss]\nmargin = 1\n")
    message = refused(tmp_path / "empty.toml").message
    for place in ("batch", "data", "loss.name", "model.encoder"):
        assert f"\n  {place}: missing" in message


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.4", 0.4), ("1", 1.0), ("1e-2", 0.01), (" 0.5 ", 0.5)],
)
def test_an_override_is_read_as_toml(recipe, text, value):
    assert load_recipe(recipe, [f"loss.margin={text}"]).loss.margin == value


def test_text_in_an_override_needs_no_quotes(recipe):
    assert load_recipe(recipe, ["name=a=b c"]).name == "a=b c"
    assert load_recipe(recipe, ['name="5"']).name == "5"
    assert load_recipe(recipe, ["train.clip=inf"]).train.clip == float("inf")


def test_a_later_override_wins(recipe):
    assert load_recipe(recipe, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("override", ["loss.margin", "=3", "loss..margin=3", "loss.=3"])
def test_an_override_that_assigns_nothing_is_refused(recipe, override):
    assert refused(recipe, override).reference == "bad-override"


def test_another_component_takes_no_options_from_the_one_it_replaces(recipe):
    loaded = load_recipe(recipe, ["loss=supcon", "loss.temperature=0.5"])
    assert (loaded.loss.name, loaded.loss.temperature) == ("supcon", 0.5)
    assert not hasattr(loaded.loss, "select")
    assert load_recipe(recipe, ["loss.name=triplet"]).loss.select == "batch_hard"


def test_options_may_stand_before_the_name_of_their_component(recipe):
    loaded = load_recipe(recipe, ["batch.batch_size=24", "batch.name=uniform"])
    assert (loaded.batch.name, loaded.batch.batch_size) == ("uniform", 24)
    loaded = load_recipe(recipe, ["batch.classes_per_batch=5", "batch={name='uniform', batch_size=24}"])
    assert (loaded.batch.name, loaded.batch.batch_size) == ("uniform", 24)


def test_a_recipe_extends_another_one_and_its_paths_stay_where_they_were_written(recipe, tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    (below / "child.toml").write_text('extends = "../small.toml"\nseed = 7\n[loss]\nmargin = 0.5\n')
    loaded = load_recipe(below / "child.toml")
    assert (loaded.name, loaded.seed, loaded.loss.margin, loaded.loss.select) == ("child", 7, 0.5, "batch_hard")
    assert loaded.data.source == str(tmp_path / "images")


def test_a_recipe_extends_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "glyphs"\n[train]\nsteps = 3\n')
    loaded = load_recipe(tmp_path / "mine.toml")
    assert (loaded.data.source, loaded.train.steps) == ("glyphs", 3)


def test_recipes_that_extend_each_other_are_a_circle(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "./a.toml"')
    assert refused(tmp_path / "a.toml").reference == "recipe-circle"


def test_a_path_in_an_override_starts_at_the_current_folder(recipe, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_recipe(recipe, ["data.source=photos"]).data.source == str(elsewhere / "photos")


def test_a_recipe_that_is_not_there_suggests_a_preset(tmp_path):
    error = refused("glyhps")
    assert (error.reference, error.hint) == ("recipe-missing", "Did you mean 'glyphs'?")
    assert refused(tmp_path).reference == "recipe-missing"
    assert "--list" in refused("zzz").hint


def test_a_name_that_is_not_there_suggests_what_stands_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert "'photos'" in refused("phtos").hint


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"[a\n"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    (tmp_path / "broken.toml").write_bytes(content)
    assert refused(tmp_path / "broken.toml").reference == "recipe-not-toml"


def test_paths_are_written_relative_to_the_folder_of_the_text(recipe, tmp_path):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(dump_recipe(load_recipe(recipe), run))
    assert 'source = "../../images"' in (run / "recipe.toml").read_text()
    assert load_recipe(run / "recipe.toml").data.source == str(tmp_path / "images")


@given(text=st.text(st.characters(exclude_categories=["Cs"])), rate=st.floats(1e-300, 1e300))
def test_every_value_survives_being_written_down(tmp_path_factory, text, rate):
    recipe = load_recipe("glyphs", ["train.ema=1e-05"])
    data = recipe.data.model_copy(update={"columns": recipe.data.columns.model_copy(update={"label": text})})
    odd = recipe.model_copy(
        update={"data": data, "train": recipe.train.model_copy(update={"learning_rate": rate, "clip": float("inf")})}
    )
    path = tmp_path_factory.mktemp("odd") / "odd.toml"
    path.write_text(dump_recipe(odd), encoding="utf-8")
    again = load_recipe(path)
    assert (again.data.columns.label, again.train.learning_rate, again.train.ema) == (text, rate, 1e-05)


@pytest.mark.parametrize("name", ["../up", ".hidden", "a\\b", "two\nlines", ""])
def test_a_name_that_makes_no_folder_is_refused(recipe, name):
    recipe.write_text(f"name = {json.dumps(name)}\n{SMALL}")
    assert "name = " in refused(recipe).message


def test_none_is_written_where_it_is_not_the_default(recipe):
    loaded = load_recipe(recipe, ["loss=npair", "train.augment=affine"])
    assert "queue" not in dump_recipe(loaded)
    assert load_recipe(recipe, ["loss.queue=none"]).loss.queue is None
    assert load_recipe(recipe, ["loss.queue=64"]).loss.queue == 64
    assert "loss.queue = 0" in refused(recipe, "loss.queue=0").message


def test_a_name_of_pytorch_metric_learning_becomes_what_it_is_here_and_says_so_once(recipe, caplog):
    loaded = load_recipe(recipe, ["loss=TripletMarginLoss", "loss.margin=0.3", "loss.swap=true"])
    assert (loaded.loss.name, loaded.loss.margin, loaded.loss.select) == ("triplet", 0.3, "swap")
    assert (loaded.loss.geometry, loaded.loss.normalise) == ("euclidean", True)
    assert [record.name for record in caplog.records] == ["tuplet.recipes.load"]
    assert load_recipe(recipe, ["loss=ArcFaceLoss"]).loss.name == "combined_margin"


@pytest.mark.parametrize(
    "overrides",
    [["loss=NPairsLoss"], ["loss=TripletMarginLoss", "loss.triplets_per_anchor=100"], ["loss=SmoothAPLoss"]],
)
def test_a_name_that_has_no_equal_in_a_recipe_is_refused(recipe, overrides):
    assert refused(recipe, *overrides).reference in {"no-equal", "bad-recipe"}
