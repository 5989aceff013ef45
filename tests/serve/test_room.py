"""Pictures wait for room, and leave it again however they end."""

import asyncio

from medgemma_cli.serve.room import Room


def test_who_finds_no_room_waits() -> None:
    """Two of six in a room of ten: one after the other; a third of four goes with the first."""

    async def go() -> None:
        room, order = Room(10), []

        async def stay(name: str, pixels: int) -> None:
            async with room.taken(pixels):
                order.append(f"+{name}")
                await asyncio.sleep(0.02)
                order.append(f"-{name}")

        await asyncio.gather(stay("a", 6), stay("b", 6), stay("c", 4))
        assert order[:2] == ["+a", "+c"] and order.index("+b") > order.index("-a")

    asyncio.run(go())


def test_one_larger_than_the_room_goes_alone() -> None:
    """It waits until nobody is there, and is not kept out for ever."""

    async def go() -> None:
        room = Room(10)
        async with room.taken(1):
            large = asyncio.ensure_future(_stay(room, 50))
            await asyncio.sleep(0.01)
            assert not large.done()
        await asyncio.wait_for(large, 5)

    asyncio.run(go())


async def _stay(room: Room, pixels: int) -> None:
    async with room.taken(pixels):
        pass


def test_room_comes_back_from_who_is_cancelled() -> None:
    """While waiting, and while inside."""

    async def go() -> None:
        room = Room(10)

        async def forever() -> None:
            async with room.taken(10):
                await asyncio.sleep(60)

        inside = asyncio.ensure_future(forever())
        await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(forever())
        await asyncio.sleep(0.01)
        for task in (waiting, inside):
            task.cancel()
        await asyncio.gather(waiting, inside, return_exceptions=True)
        await asyncio.wait_for(_stay(room, 10), 5)

    asyncio.run(go())
