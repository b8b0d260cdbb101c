"""A table of rows is the same whoever owns which of them."""

import pytest
import torch

from tuplet.engine import Processes
from tuplet.errors import ShapeError
from tuplet.heads import ClassWeights
from tuplet.memory import MemoryBank

TABLES = {
    "bank": lambda **options: MemoryBank(11, 3, **options),
    "head": lambda **options: ClassWeights(11, 3, 2, **options),
    "head of several blocks": lambda **options: ClassWeights(9000, 2, **options),
}


def parts(make, size):
    return [make(shards=Processes(rank, size)) for rank in range(size)]


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_first_rows_do_not_depend_on_who_owns_them(make, size):
    whole = make()
    together = torch.cat([getattr(part, part.table) for part in parts(make, size)])
    assert torch.equal(together, getattr(whole, whole.table))


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_state_with_all_rows_is_loaded_by_any_number_of_processes(make, size):
    whole = make(seed=1)
    shares = parts(make, size)
    for part in shares:
        part.load_state_dict(whole.state_dict())
    assert torch.equal(torch.cat([getattr(part, part.table) for part in shares]), getattr(whole, whole.table))


def test_a_state_of_another_size_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        MemoryBank(11, 3, shards=Processes(1, 2)).load_state_dict(MemoryBank(12, 3).state_dict())


@pytest.mark.parametrize("make", [ClassWeights, MemoryBank])
def test_more_shards_than_rows_are_refused(make):
    with pytest.raises(ShapeError, match="in 3 shards"):
        make(2, 4, shards=Processes(0, 3))


def test_lists_are_dealt_out_to_the_owners_of_their_rows():
    lists = torch.randint(-1, 11, (5, 7), generator=torch.Generator().manual_seed(0))
    met = [[] for _ in lists]
    for part in parts(TABLES["bank"], 3):
        own, there = part.part.own_lists(lists)
        for row, entries, places in zip(met, own, there, strict=True):
            row.extend((entries[places] + part.first).tolist())
            assert not places.sort(stable=True, descending=True).values.ne(places).any(), "they come first"
    assert [sorted(row) for row in met] == [sorted(row[row >= 0].tolist()) for row in lists]
