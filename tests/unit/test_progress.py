"""How often a job's progress is told, and that telling it never holds the job up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sotto.worker import channel
from sotto.worker.progress import PROGRESS_EVERY_S, Progress
from sotto.worker.work import HowFar


class Receiver:
    """A channel that keeps what comes, and holds the sender up while its door is shut."""

    def __init__(self) -> None:
        self.updates: list[Mapping[str, Any]] = []
        self.door = asyncio.Event()
        self.door.set()

    async def progress(self, update: Mapping[str, Any]) -> None:
        await self.door.wait()
        self.updates.append(update)

    async def stream(self, item: Any) -> None:
        raise AssertionError("progress is not streamed")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tell(progress: Progress, segments: int) -> None:
    progress.tell(HowFar("transcribe", 1.23456, None, segments))


async def others_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_update_says_how_far_the_job_is() -> None:
    async def main() -> None:
        receiver = Receiver()
        progress = Progress(receiver)
        progress.tell(HowFar("transcribe", 12.3456, 60.0, 4))
        await others_run()
        assert receiver.updates == [
            {"stage": "transcribe", "audio_s_done": 12.35, "audio_s_total": 60.0, "segments": 4}
        ]

    asyncio.run(main())


def test_updates_are_dropped_until_the_last_one_is_old_enough() -> None:
    async def main() -> None:
        receiver, clock = Receiver(), Clock()
        progress = Progress(receiver, clock)
        for segments, after_s in enumerate([0.0, 0.125, PROGRESS_EVERY_S - 0.25, 0.125, 0.125]):
            clock.now += after_s
            tell(progress, segments)
            await others_run()
        assert [update["segments"] for update in receiver.updates] == [0, 3]
        assert receiver.updates[0]["audio_s_total"] is None

    asyncio.run(main())


def test_a_slow_platform_holds_up_neither_the_job_nor_a_queue_of_updates() -> None:
    async def main() -> None:
        receiver, clock = Receiver(), Clock()
        progress = Progress(receiver, clock)
        receiver.door.clear()
        for segments in range(10):
            tell(progress, segments)
            await others_run()
            clock.now += PROGRESS_EVERY_S
        receiver.door.set()
        await others_run()
        tell(progress, 10)
        await others_run()
        assert [update["segments"] for update in receiver.updates] == [0, 10]

    asyncio.run(main())


def test_outside_of_the_loop_the_channel_is_silent() -> None:
    async def main() -> None:
        await channel.current().progress({"stage": "engine"})
        await channel.current().stream({"text": "hello"})

    asyncio.run(main())
    assert isinstance(channel.current(), channel.Silent)


def test_each_task_and_those_it_starts_have_their_own_channel() -> None:
    async def job(receiver: Receiver) -> bool:
        channel.assign(receiver)
        await asyncio.sleep(0)
        return await asyncio.create_task(found(receiver))

    async def found(receiver: Receiver) -> bool:
        return channel.current() is receiver

    async def main() -> None:
        assert await asyncio.gather(job(Receiver()), job(Receiver())) == [True, True]
        assert isinstance(channel.current(), channel.Silent)

    asyncio.run(main())
