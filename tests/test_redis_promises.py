"""What a Redis server does not promise is told: eviction always, durability where it is alone."""

from __future__ import annotations

import pytest
from redis_servers import TTL_SECONDS, private_redis

from engine.backends.redis import RedisBatchStateRepository


@pytest.mark.parametrize(
    ("options", "alone", "words"),
    [
        ({"appendonly": "yes"}, True, []),
        ({}, False, []),
        ({}, True, ["appendonly no"]),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, False, ["volatile-lru or"]),
        (
            {"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"},
            False,
            ["(maxmemory-policy v"],
        ),
        ({"maxmemory-policy": "allkeys-lru"}, False, []),  # there is no limit to reach
    ],
)
async def test_what_is_not_promised_is_told(
    options: dict[str, str], alone: bool, words: list[str]
) -> None:
    with private_redis(options) as server:
        opened = await RedisBatchStateRepository.open(
            server.url, ttl_seconds=TTL_SECONDS, alone=alone
        )
        assert len(opened.notices) == len(words)
        for notice, word in zip(opened.notices, words, strict=True):
            assert word in notice
        await opened.aclose()
