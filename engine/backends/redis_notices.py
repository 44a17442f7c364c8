"""Notices of changes: who writes says which batches, who watches hears it and reads them again.

A notice may get lost, so now and then everything is looked at. The notifications that deployed
services send to their users (`ws:*`) are heard as well: they tell of batches that others changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from typing import Final

import msgspec
import redis.exceptions as failures

from engine.backends.redis_link import Link
from engine.clock import Clock
from engine.hints import hint
from engine.redis_access import explained
from engine.redis_subscription import Subscription

CHANNEL: Final = "bcs:events:changes"
"""A message on it is a JSON array of batch ids."""

_OF_SERVICES: Final = "ws:*"

LOOK_SECONDS: Final = 10.0
"""How often everything is looked at although no notice says so."""

_log = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[str]).decode


class Notices:
    """Tells others which batches have changed, as far as the account may."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_permitted = True

    async def tell(self, batch_ids: Collection[str]) -> None:
        """Send one notice; it may get lost."""
        if not batch_ids or not self._is_permitted:
            return
        [reply] = await self._link.exchange([("PUBLISH", CHANNEL, _encode(sorted(batch_ids)))])
        if isinstance(reply, failures.NoPermissionError):
            self._is_permitted = False
            _log.warning("no notices of changes: the account may not PUBLISH to %s", CHANNEL)


async def listen(url: str, clock: Clock) -> AsyncGenerator[Collection[str] | None, None]:
    """Yield the batches that notices name, `None` when it is time to look at all.

    Raises:
        RepositoryUnavailable: The connection is lost, or silent for too long.
    """
    subscription = Subscription(url, CHANNEL, pattern=_OF_SERVICES)
    beating = asyncio.create_task(subscription.keep_beating())
    try:
        with explained(url):
            await subscription.start()
        looked = clock.monotonic()
        yield ()
        while True:
            with explained(url):
                message = await subscription.hear()
            if clock.monotonic() - looked >= LOOK_SECONDS:
                looked = clock.monotonic()
                yield None
            yield () if message is None else named(message)
    finally:
        beating.cancel()
        await subscription.aclose()


def named(message: bytes) -> Collection[str]:
    """Return the batches that a message names: a notice of ours, or one of the services."""
    try:
        return _decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        batch_id = hint(message)
        return (batch_id,) if batch_id else ()
