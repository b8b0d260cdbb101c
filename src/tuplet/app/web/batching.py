"""Queries of several requests, embedded in one pass."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuplet.errors import TupletError
from tuplet.types import Side

Embed = Callable[[Side, Sequence[Any]], Awaitable[Tensor]]


@dataclass(frozen=True)
class _Job:
    side: Side
    item: Any
    done: "asyncio.Future[Tensor]"


class Batcher:
    """Collects queries while a pass runs, and embeds all of them in the next one.

    There is no waiting for company: a query that comes alone is embedded at once.

    Args:
        embed: Embeds items of one side.
        most: Queries in one pass.
    """

    def __init__(self, embed: Embed, most: int) -> None:
        self._embed = embed
        self._most = most
        self._waiting: list[_Job] = []
        self._wake = asyncio.Event()

    async def embed(self, side: Side, item: Any) -> Tensor:
        """The embedding of one item.

        Raises:
            TupletError: If it cannot be embedded.
        """
        job = _Job(side, item, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._wake.set()
        return await job.done

    async def run(self) -> None:
        """Embed what waits, until cancelled."""
        while True:
            await self._wake.wait()
            jobs, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if not self._waiting:
                self._wake.clear()
            sides: tuple[Side, ...] = ("query", "partner")
            for side in sides:
                wanted = [job for job in jobs if job.side == side and not job.done.cancelled()]
                if wanted:
                    await self._pass(side, wanted)

    async def _pass(self, side: Side, jobs: Sequence[_Job]) -> None:
        try:
            rows = await self._embed(side, [job.item for job in jobs])
        except TupletError as error:
            if len(jobs) == 1:
                _settle(jobs[0], error)
                return
            for job in jobs:  # one of them is to blame, the others are not
                await self._pass(side, [job])
        except Exception as error:  # noqa: BLE001  whoever waits must be given, and the next pass must run
            for job in jobs:
                _settle(job, error)
        else:
            for job, row in zip(jobs, rows, strict=True):
                _settle(job, row)


def _settle(job: _Job, outcome: Tensor | Exception) -> None:
    if job.done.cancelled():
        return
    if isinstance(outcome, Exception):
        job.done.set_exception(outcome)
    else:
        job.done.set_result(outcome)
