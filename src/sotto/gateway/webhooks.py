"""Telling a client's own address that its job has ended.

Invariant: nothing waits for a webhook, and no message holds its address: it may hold a secret.
"""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import msgspec

from sotto.gateway.job import Job

ATTEMPTS = 3
ANSWER_WITHIN_S = 30.0

log = logging.getLogger(__name__)


class Webhooks:
    """`async with Webhooks(interval_s)`; what is not delivered at the end of it is given up."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._deliveries: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Webhooks:
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._session.close()

    def send(self, job: Job) -> None:
        """Post the job's status, as it is now, to its webhook if it has one."""
        if job.order.webhook is None:
            return
        body = msgspec.json.encode(job.status())
        delivery = asyncio.create_task(self._deliver(job.id, job.order.webhook, body))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def _deliver(self, job_id: str, url: str, body: bytes) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._interval_s)
            if await self._is_accepted(url, body):
                return
        log.warning("job %s: its webhook took none of %d calls", job_id, ATTEMPTS)

    async def _is_accepted(self, url: str, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
