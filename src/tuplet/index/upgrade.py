"""A new model for an old index: a map for queries at once, items embedded anew, the change from one to the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.data import Manifest
from tuplet.errors import DataError, IndexFormatError, counted
from tuplet.index.base import UPGRADE, Facts, Index
from tuplet.index.collect import BATCH, content_of, embedded
from tuplet.index.spacemap import KINDS, SpaceMap, fitted, mapped
from tuplet.index.writing import LOCK, MODEL, alone
from tuplet.models import Embedder
from tuplet.models.embedder import saved_hash
from tuplet.seeding import derive
from tuplet.storage import inner_takes_place, read_json, replaced_folder, settle, write_json
from tuplet.types import Side

SAMPLE = 2000
"""Most items on which the map is fitted, chosen and measured."""
_FORMAT, _MEASURED, _NEXT = 1, "measured.json", "next"
_REMEDY = "Delete the folder `upgrade` of the index, and type the command again."
_QUERIES, _TOP = 200, 10
_SHOWN = 5
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Upgraded:
    """What became of an upgrade.

    Args:
        measured: Of each map, and of the old model itself, what `Measured` says; see `measured_map`.
        chosen: The map that queries take.
        items: How many the index holds.
        embedded: How many were embedded by this call.
        is_done: Whether the index is one of the new model now.
    """

    measured: Sequence[Mapping[str, Any]]
    chosen: str
    items: int
    embedded: int
    is_done: bool


class Sources:
    """Where the items of an index can be read again, found by their content.

    Args:
        manifests: Collections.
    """

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self.manifests = list(manifests)
        self.places: dict[str, tuple[int, int]] = {}
        for number, manifest in enumerate(self.manifests):
            for at, item in enumerate(manifest.items):
                self.places.setdefault(content_of(item), (number, at))

    def embed(self, index: Index, contents: Sequence[str], side: Side) -> tuple[Tensor, int]:
        """Embeddings of some contents by the model of an index, and how many of them had to be made."""
        rows, made = torch.empty(len(contents), index.dim), 0
        for number, manifest in enumerate(self.manifests):
            own = [at for at, content in enumerate(contents) if self.places[content][0] == number]
            if own:
                chosen = [self.places[contents[at]][1] for at in own]
                found, fresh = embedded(index, manifest, chosen, [contents[at] for at in own], side, 256)
                rows[own], made = found, made + fresh
        return rows, made


def upgrade(
    index: Index,
    embedder: Embedder,
    manifests: Sequence[Manifest],
    *,
    side: Side = "query",
    recall: float | None = None,
    map_only: bool = False,
    seed: int = 0,
    notice: Callable[[Upgraded], None] | None = None,
    progress: Progress | None = None,
) -> Upgraded:
    """Give an index a new model, without a time in which it cannot be searched.

    First a map from the new space to the old one is fitted and measured on items that it was not fitted on; from then
    on queries are embedded by the new model, brought into the old space, and answered by the old index. Then all items
    are embedded anew into an index beside it, batch by batch; the same call after an interruption goes on. When all are
    there, the new index takes the place of the old one in one step.

    Args:
        index: The old one.
        embedder: The new model.
        manifests: Collections that hold what the index holds, as the new model reads it. Of texts none is needed.
        side: Which side of pairs the items are on.
        recall: What the new index is tuned to, where the old one was; by default the same.
        map_only: Stop once queries are answered.
        seed: Of the items that are sampled.
        notice: Called when queries are answered by the new model.
        progress: Called with (items done, items in all) after each batch.

    Raises:
        DataError: If items are in none of the collections, or the index has this model already.
        IndexFormatError: If another upgrade is under way, or a folder cannot be written.
    """
    _require_another(index, embedder)
    home = index.folder / UPGRADE
    settle(home)
    sources = Sources(manifests or [_texts(index)])
    if not (home / _MEASURED).is_file():
        _begin(index, embedder, sources, side, seed)
    _require_same(home, embedder)
    measured = read_json(home / _MEASURED, version=_FORMAT, error=IndexFormatError, remedy=_REMEDY, seal=True)
    state = Upgraded(measured["measured"], measured["chosen"], len(index), 0, is_done=False)
    if notice is not None:
        notice(state)
    if map_only:
        return state
    with alone(home):
        made = _fill(index, home, sources, side, progress)
        beside = _opened(home / _NEXT)
        if beside.backend != "flat" and (asked := recall or index.recall.get("asked")):
            beside.tune(asked)
        with alone(index.folder):
            made += _fill(_opened(index.folder), home, sources, side, None)  # what was added meanwhile
            inner_takes_place(home / _NEXT, index.folder, error=IndexFormatError)
    return Upgraded(state.measured, state.chosen, len(beside), made, is_done=True)


def mapped_embedder(index: Index, *, trust: bool = False) -> Embedder | None:
    """What embeds the queries of an index that is being upgraded; None of others."""
    home = index.folder / UPGRADE
    if not (home / _MEASURED).is_file():
        return None
    return mapped(Embedder.load(home / _NEXT / MODEL, trust=trust), SpaceMap.load(home), index.geometry)


def _begin(index: Index, embedder: Embedder, sources: Sources, side: Side, seed: int) -> None:
    """Fit the map, and begin the new index, whole or not at all."""
    contents = _contents(index)
    _require_sources(index, contents, sources)
    owns = {_MEASURED, _NEXT, LOCK, "map.json", "map.safetensors"}
    with replaced_folder(index.folder / UPGRADE, owns=owns, error=IndexFormatError) as new:
        _created(index, new / _NEXT, embedder)
        beside = _opened(new / _NEXT)
        names = list(contents)
        order = torch.randperm(len(names), generator=derive(seed, "upgrade"))[:SAMPLE].tolist()
        sampled = [names[at] for at in order]
        items = index.fetch(sampled)
        old = torch.from_numpy(np.array([items[name].vector for name in sampled]).reshape(len(sampled), index.dim))
        rows, _ = sources.embed(beside, [contents[name] for name in sampled], side)
        facts = [items[name].facts for name in sampled]
        found, chosen, measured = _chosen(index, facts, rows, old, embedder, seed)
        found.save(new)
        write_json(new / _MEASURED, {"measured": measured, "chosen": chosen}, version=_FORMAT, seal=True)


def _chosen(
    index: Index, facts: Sequence[Facts], new: Tensor, old: Tensor, embedder: Embedder, seed: int
) -> tuple[SpaceMap, str, list[dict[str, Any]]]:
    """The best map by some items, and what all of them cost by others; neither were fitted on."""
    part = min(_QUERIES, len(new) // 4)
    choose, report, fit = slice(0, part), slice(part, 2 * part), slice(2 * part, None)
    maps = {kind: fitted(kind, new[fit], old[fit], embedder.geometry, index.geometry, seed=seed) for kind in KINDS}

    def measured_on(part: slice, kind: str) -> dict[str, Any]:
        return measured_map(index, facts[part], maps[kind], new[part], old[part])

    shares = {kind: measured_on(choose, kind)["recall"] for kind in KINDS}
    chosen = max(KINDS, key=lambda kind: shares[kind])  # the simpler one of equals
    measured = [{"map": kind, "chosen": kind == chosen, **measured_on(report, kind)} for kind in KINDS]
    return maps[chosen], chosen, measured


def measured_map(
    index: Index,
    facts: Sequence[Facts],
    space_map: SpaceMap,
    new: Float[Tensor, "rows dim_in"],
    old: Float[Tensor, "rows dim"],
) -> dict[str, Any]:
    """What it costs to search an old index by mapped queries: items of the index ask, each without itself.

    Returns:
        `recall`: share of the ten nearest that the old model's own embedding finds by exact search; `class` and
        `class_old`: share of queries whose nearest item is of their class, by the map and by the old model, None where
        items have no classes; `queries`.
    """
    if not len(new):
        return {"recall": 1.0, "class": None, "class_old": None, "queries": 0}
    with torch.no_grad():
        asked = space_map(new)
    exact, found = index.search(old, _TOP + 1, exact=True), index.search(asked, _TOP + 1)
    shares: list[float] = []
    hits: list[float] = []
    hits_old: list[float] = []
    for fact, one, other in zip(facts, exact.facts, found.facts, strict=True):
        wanted, got = _others(one, fact), _others(other, fact)
        shares.append(len({each["id"] for each in wanted} & {each["id"] for each in got}) / max(1, len(wanted)))
        if "label" in fact and wanted and got:
            hits_old.append(wanted[0].get("label") == fact["label"])
            hits.append(got[0].get("label") == fact["label"])
    return {"recall": _mean(shares), "class": _mean(hits), "class_old": _mean(hits_old), "queries": len(shares)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _others(found: Sequence[Facts], own: Facts) -> list[Facts]:
    return [fact for fact in found if fact["id"] != own["id"]][:_TOP]


def _fill(index: Index, home: Path, sources: Sources, side: Side, progress: Progress | None) -> int:
    """Bring every item of the old index into the new one, and take out what is gone; how many were embedded."""
    beside, made = _opened(home / _NEXT), 0
    contents = _contents(index)
    _require_sources(index, contents, sources)
    known = _contents(beside)
    gone = [name for name, content in known.items() if contents.get(name) != content]
    beside.remove(gone)
    done = len(known) - len(gone)
    for facts in _batches(fact for fact in index.items if known.get(str(fact["id"])) != contents.get(str(fact["id"]))):
        wanted = [contents[str(fact["id"])] for fact in facts]
        rows, fresh = sources.embed(beside, wanted, side)
        beside.insert(facts, wanted, rows)
        made, done = made + fresh, done + len(facts)
        if progress is not None:
            progress(done, len(contents))
    return made


def _contents(index: Index) -> dict[str, str]:
    """The content of each item by its name, in the order in which they were added."""
    found: dict[str, str] = {}
    for facts in _batches(index.items):
        names = [str(fact["id"]) for fact in facts]
        known = index.known(names)
        found.update((name, known[name]) for name in names if name in known)
    return found


def _batches(facts: Any) -> Iterator[list[Facts]]:
    batch: list[Facts] = []
    for fact in facts:
        batch.append(fact)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _texts(index: Index) -> Manifest:
    """The texts of an index, which hold all that there is to embed."""
    facts = [fact for fact in index.items if "text" in fact]
    return Manifest("text", tuple(str(fact["id"]) for fact in facts), tuple(str(fact["text"]) for fact in facts))


def _created(index: Index, folder: Path, embedder: Embedder) -> None:
    from tuplet import index as indexes

    indexes.create(folder, embedder, backend=index.backend, **index.beside(embedder))


def _opened(folder: Path) -> Index:
    from tuplet import index as indexes

    return indexes.open(folder)


def _require_sources(index: Index, contents: Mapping[str, str], sources: Sources) -> None:
    missing = [name for name, content in contents.items() if content not in sources.places]
    if missing:
        shown = ", ".join(map(repr, missing[:_SHOWN])) + ", ..." * (len(missing) > _SHOWN)
        raise DataError(
            f"{counted(len(missing), 'item', 'items')} of {index.folder} is in none of the collections: {shown}.",
            hint="Name all collections that the index was filled from; what is gone for good: tuplet index remove",
            reference="upgrade-items",
        )


def _require_another(index: Index, embedder: Embedder) -> None:
    if embedder.content_hash() == index.model_hash:
        raise DataError(
            f"{index.folder} has this model already, hash {index.model_hash[:8]}.",
            hint="Name the run of the new model: --model RUN",
            reference="upgrade-model",
        )


def _require_same(home: Path, embedder: Embedder) -> None:
    begun = saved_hash(home / _NEXT / MODEL)
    if begun != embedder.content_hash():
        raise IndexFormatError(
            f"{home.parent} is being upgraded to the model {begun[:8]}, not to {embedder.content_hash()[:8]}.",
            hint=f"Go on with that model, or give it up: delete {home}",
            reference="upgrade-model",
        )
