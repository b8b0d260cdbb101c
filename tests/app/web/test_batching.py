"""Queries of several requests in one pass."""

import asyncio

import pytest
import torch

from tuplet.app.web.batching import Batcher
from tuplet.errors import DataError


class Encoder:
    """Notes its passes; waits before each until it may."""

    def __init__(self, broken=()):
        self.passes, self.may, self.broken = [], asyncio.Event(), broken

    async def __call__(self, side, items):
        await self.may.wait()
        self.passes.append((side, list(items)))
        if set(items) & set(self.broken):
            raise DataError("broken", hint="none", reference="broken-image")
        return torch.tensor([[float(item)] for item in items])


def batched(test, **options):
    """Run a test with a batcher that works, and its encoder."""

    async def run():
        encoder = Encoder(options.get("broken", ()))
        batcher = Batcher(encoder, options.get("most", 64))
        working = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(test(batcher, encoder), 60)
        finally:
            working.cancel()

    return asyncio.run(run())


async def started(batcher, side, items):
    """Requests that wait."""
    tasks = [asyncio.create_task(batcher.embed(side, item)) for item in items]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_what_comes_while_a_pass_runs_is_embedded_in_the_next_one():
    async def test(batcher, encoder):
        first = await started(batcher, "query", [0])
        await asyncio.sleep(0.01)
        rest = await started(batcher, "query", range(1, 10)) + await started(batcher, "partner", [10])
        encoder.may.set()
        rows = await asyncio.gather(*first, *rest)
        assert [float(row) for row in rows] == list(range(11))
        assert encoder.passes == [("query", [0]), ("query", list(range(1, 10))), ("partner", [10])]

    batched(test)


def test_no_pass_holds_more_than_the_most():
    async def test(batcher, encoder):
        tasks = await started(batcher, "query", range(10))
        encoder.may.set()
        assert [float(row) for row in await asyncio.gather(*tasks)] == list(range(10))
        assert max(len(items) for _, items in encoder.passes) <= 4
        assert sum(len(items) for _, items in encoder.passes) == 10

    batched(test, most=4)


def test_one_broken_query_fails_alone():
    async def test(batcher, encoder):
        first = await started(batcher, "query", [0])
        await asyncio.sleep(0.01)
        rest = await started(batcher, "query", range(1, 6))
        encoder.may.set()
        found = await asyncio.gather(*first, *rest, return_exceptions=True)
        assert isinstance(found[3], DataError)
        assert [float(row) for at, row in enumerate(found) if at != 3] == [0, 1, 2, 4, 5]

    batched(test, broken=[3])


def test_queries_that_nobody_waits_for_are_not_embedded():
    async def test(batcher, encoder):
        first = await started(batcher, "query", [0])
        await asyncio.sleep(0.01)
        gone, kept = await started(batcher, "query", [1, 2])
        gone.cancel()
        await asyncio.sleep(0)
        encoder.may.set()
        assert float(await kept) == 2
        assert float(await first[0]) == 0
        assert encoder.passes == [("query", [0]), ("query", [2])]
        with pytest.raises(asyncio.CancelledError):
            await gone

    batched(test)
