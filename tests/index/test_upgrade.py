"""An index gets another model: queries at once by a map, items anew in the background, the change in one step."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tuplet import index as indexes
from tuplet.data import Manifest
from tuplet.data.transforms import VectorPreprocessing
from tuplet.errors import DataError, IndexFormatError
from tuplet.index import spacemap
from tuplet.index.upgrade import UPGRADE, Sources, upgrade
from tuplet.models import Embedder, build_encoder

NOISE = np.random.default_rng(3)
CENTRES = NOISE.normal(size=(20, 5)).astype(np.float32)
LABELS = NOISE.integers(0, 20, 300)
ROWS = (CENTRES[LABELS] + 0.3 * NOISE.normal(size=(300, 5))).astype(np.float32)


def make(seed=1, dim=4, geometry="cosine"):
    config = {"name": "linear", "in_dim": 5, "dim": dim}
    return Embedder(build_encoder(config, seed=seed), VectorPreprocessing(), encoder_config=config, geometry=geometry)


def collection(rows=ROWS, prefix="row "):
    names = tuple(f"{prefix}{at}" for at in range(len(rows)))
    return Manifest("vector", names, rows, labels=LABELS[: len(rows)], class_names=tuple(f"c{at}" for at in range(20)))


def filled(create, name=None, **options):
    index = create(make(**options), name)
    indexes.add(index, collection())
    return index


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", spacemap.KINDS)
def test_a_map_that_there_is_is_found(geometry, kind):
    """A turned copy of a space: every kind of map brings it back."""
    old = torch.from_numpy(NOISE.normal(size=(400, 6)).astype(np.float32))
    turn = torch.linalg.qr(torch.from_numpy(NOISE.normal(size=(9, 9))))[0].float()
    new = torch.cat([old, torch.zeros(400, 3)], 1) @ turn
    new, given = (new * 3 + 1, geometry) if geometry == "euclidean" else (new, geometry)
    found = spacemap.fitted(kind, new[:300], old[:300], given, geometry)
    with torch.no_grad():
        made = found(new[300:])
    wanted = old[300:]
    if geometry == "cosine":
        made, wanted = torch.nn.functional.normalize(made), torch.nn.functional.normalize(wanted)
    assert float((made - wanted).square().mean()) < 1e-3 * float(wanted.square().mean())


def test_a_rotation_is_the_nearest_orthogonal_map():
    """By brute force over the angle, in two dimensions."""
    x = torch.nn.functional.normalize(torch.from_numpy(NOISE.normal(size=(50, 2))))
    y = torch.nn.functional.normalize(torch.from_numpy(NOISE.normal(size=(50, 2))))
    weight = spacemap.fitted("rotation", x, y, "cosine", "cosine").linear.weight.detach().double()
    unit = weight / torch.linalg.det(weight).abs().sqrt()
    least = min(
        float((x @ (torch.tensor([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) @ flip).T - y).square().sum())
        for t in np.linspace(0, 2 * np.pi, 2000)
        for flip in (torch.eye(2).double(), torch.diag(torch.tensor([1.0, -1.0])).double())
    )
    assert float((x @ unit.T - y).square().sum()) == pytest.approx(least, abs=1e-3)


@pytest.mark.slow
def test_queries_are_answered_at_once_and_the_index_changes_over(create):
    index, new = filled(create), make(seed=2, dim=6)
    facts, before = list(index.items), index.search(make().embed(ROWS[:5]), 3)
    begun = upgrade(index, new, [collection()], map_only=True)
    assert (begun.is_done, begun.embedded, [row["map"] for row in begun.measured]) == (False, 0, list(spacemap.KINDS))
    chosen = next(row for row in begun.measured if row["chosen"])
    assert chosen["map"] == begun.chosen
    assert chosen["recall"] > 0.5
    assert chosen["queries"] == 75
    opened = indexes.open(index.folder)
    assert opened.model_hash == make().content_hash()
    mapped = opened.search(opened.query_embedder.embed(ROWS[:100]), 1)
    near = np.mean([hits[0]["label"] == f"c{label}" for hits, label in zip(mapped.facts, LABELS[:100], strict=True)])
    assert near > 0.8
    assert opened.search(opened.embedder.embed(ROWS[:5]), 3).ids == before.ids
    done = upgrade(opened, new, [collection()])
    assert (done.is_done, done.items) == (True, 300)
    after = indexes.open(index.folder)
    assert after.model_hash == after.query_embedder.content_hash() == new.content_hash()
    assert (list(after.items), after.check(), after.backend) == (facts, [], create.backend)
    assert not (index.folder / UPGRADE).exists()
    rows = ROWS[[int(fact["id"].removeprefix("row ")) for fact in facts]]
    expected = indexes.FlatIndex.write(index.folder.with_name("fresh"), new, new.embed(rows), facts)
    asked = new.embed(ROWS[:20])
    assert after.search(asked, 5).ids == expected.search(asked, 5).ids


@pytest.mark.slow
def test_what_is_added_removed_and_replaced_meanwhile_is_so_afterwards(create):
    index, new = filled(create), make(seed=2)
    upgrade(index, new, [collection()], map_only=True)
    writer = indexes.open(index.folder)
    writer.remove(["row 7"])
    more = np.full((2, 5), 2.0, np.float32) * [[1], [-1]]
    changed = Manifest("vector", ("row 3", "late"), more.astype(np.float32))
    indexes.add(writer, changed, replacing=True)
    with pytest.raises(DataError) as caught:
        upgrade(indexes.open(index.folder), new, [collection()])
    assert caught.value.reference == "upgrade-items"
    assert indexes.open(index.folder).check() == []
    upgrade(indexes.open(index.folder), new, [collection(), changed])
    after = indexes.open(index.folder)
    assert {fact["id"] for fact in after.items} == {f"row {at}" for at in range(300)} - {"row 7"} | {"late"}
    found = after.fetch(["row 3", "late"])
    assert np.stack([found[name].vector for name in ("row 3", "late")]) == pytest.approx(
        new.embed(more.astype(np.float32)).numpy(), abs=1e-6
    )


def test_what_cannot_be_upgraded_is_said(create):
    index = filled(create)
    for given, model, reference in (
        ([collection()], make(), "upgrade-model"),
        ([collection(ROWS[:100])], make(seed=2), "upgrade-items"),
    ):
        with pytest.raises(DataError) as caught:
            upgrade(index, model, given)
        assert caught.value.reference == reference
        assert not (index.folder / UPGRADE).exists()
    upgrade(index, make(seed=2), [collection()], map_only=True)
    with pytest.raises(IndexFormatError) as caught:
        upgrade(index, make(seed=3), [collection()])
    assert caught.value.reference == "upgrade-model"


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_few_items_are_enough(create, count):
    index = create(make())
    indexes.add(index, collection(ROWS[:count]))
    done = upgrade(index, make(seed=2, dim=3), [collection()])
    after = indexes.open(index.folder)
    assert (done.is_done, len(after), after.dim, after.check()) == (True, count, 3, [])


def test_items_are_found_by_their_content_whatever_they_are_called():
    sources = Sources([collection(ROWS[:3], prefix="x"), collection(ROWS[1:5], prefix="y")])
    assert sorted(sources.places.values()) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)]


UPGRADING = """
import os, sys, numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import test_upgrade as these
from tuplet import index
from tuplet.index import upgrade as module
module.BATCH = 10
die, rename = int(sys.argv[3]), Path.rename

def counted(path, target):
    global die
    if "upgrade" in str(path) or path.name == sys.argv[2]:
        die -= 1
        if die == 0:
            os._exit(9)
    return rename(path, target)

if die:
    Path.rename = counted
say = lambda done, count: print(done, flush=True)
module.upgrade(index.open(sys.argv[1]), these.make(seed=2, dim=6), [these.collection()], progress=say)
"""


@pytest.fixture
def start(typist):
    here = Path(__file__).parent
    return lambda folder, die=0: typist.start(["python", "-c", UPGRADING, folder, folder.name, die, here], here)


def check(folder, facts):
    """Whatever was killed: all items are there, by the one model or the other, and are found."""
    index = indexes.open(folder)
    assert index.check() == []
    assert list(index.items) == facts
    hits = index.search(index.query_embedder.embed(ROWS[:100]), 1).facts
    assert np.mean([found[0]["label"] == f"c{label}" for found, label in zip(hits, LABELS[:100], strict=True)]) > 0.8
    return index.model_hash


@pytest.mark.slow
def test_an_upgrade_that_is_killed_goes_on(create, start):
    """After some batches, and before each of the renames that begin it and end it."""
    index = filled(create, "killed")
    facts, old = list(index.items), index.model_hash
    for after in (1, 9, 3):
        process = start(index.folder)
        said = list(itertools.islice(process.lines(), after))
        time.sleep(0.01 * after)
        process.kill()
        process.wait()
        if check(index.folder, facts) != old:  # it was faster
            return
        assert int(said[0]) > 0
    for die in itertools.count(1):
        process = start(index.folder, die)
        if process.wait() == 0:
            break
        assert process.returncode == 9
        check(index.folder, facts)
    assert check(index.folder, facts) == make(seed=2, dim=6).content_hash()
