"""Room for decoded pictures: a few kilobytes of PNG may be 200 MB of pixels, for every request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Room:
    """So many pixels at once; who finds no room waits. Of one event loop.

    Args:
        pixels: what there is room for. A picture larger than that is let in alone.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._taken = 0
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def taken(self, pixels: int) -> AsyncIterator[None]:
        """Have room for so many while inside."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._taken == 0 or self._taken + pixels <= self._pixels
            )
            self._taken += pixels
        try:
            yield
        finally:
            self._taken -= pixels
            async with self._changed:
                self._changed.notify_all()
