"""A replay: paced by event times, held, stepped, moved in, and the clock of its world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from event_files import EventFile, drain

from engine.clock import ManualClock
from engine.errors import FeedUnavailable
from engine.feeds.files import BLOCK_BYTES
from engine.feeds.port import MAX_EVENT_BYTES, Envelope
from engine.feeds.replay import ReplayClock, ReplayFeed
from engine.feeds.simulation.fleet import FIRST_DAY

OpenReplay = Callable[..., ReplayFeed]


def line(seconds: float | None, text: str = "") -> bytes:
    """An envelope that happens so many seconds after the start, or has no time."""
    if seconds is None:
        return f'{{"event_id": "{text}"}}'.encode()
    moment = (FIRST_DAY + timedelta(seconds=seconds)).isoformat()
    return f'{{"event_id": "{text}", "event_timestamp": "{moment}"}}'.encode()


TEN = [line(seconds) for seconds in range(10)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(FIRST_DAY.replace(year=2030))


@pytest_asyncio.fixture
async def replay(tmp_path: Path, clock: ManualClock) -> AsyncIterator[OpenReplay]:
    opened: list[ReplayFeed] = []

    def open_replay(*files: Sequence[bytes], **options: object) -> ReplayFeed:
        paths = [tmp_path / f"{number}.jsonl" for number in range(len(files))]
        for path, lines in zip(paths, files, strict=True):
            path.write_bytes(b"".join(raw + b"\n" for raw in lines))
        opened.append(ReplayFeed(paths, clock=clock, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_replay
    for feed in opened:
        await feed.aclose()


async def rest(feed: ReplayFeed) -> asyncio.Task[list[Envelope] | None]:
    """Start a read that has nothing to give, and let it come to rest."""
    reading = asyncio.create_task(feed.read())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reading.done()
    return reading


async def due(feed: ReplayFeed) -> list[bytes]:
    """Return what is due now; there must be something."""
    async with asyncio.timeout(60):
        while not (chunk := await feed.read()):
            assert chunk is not None, "the replay has ended"
    return [envelope.raw for envelope in chunk]


def seconds(feed: ReplayFeed) -> float:
    assert feed.now is not None
    return (feed.now - FIRST_DAY).total_seconds()


async def test_events_come_when_they_are_due(replay: OpenReplay, clock: ManualClock) -> None:
    feed = replay(TEN, speed=2.0)
    assert await due(feed) == TEN[:1]
    clock.advance(0.4)
    reading = await rest(feed)
    assert seconds(feed) == 0.8
    clock.advance(0.2)
    assert [envelope.raw for envelope in await reading or []] == TEN[1:2]
    clock.advance(2.0)
    assert await due(feed) == TEN[2:6]
    assert (feed.index, feed.length) == (6, 10)


async def test_time_does_not_pass_before_the_first_read(
    replay: OpenReplay, clock: ManualClock
) -> None:
    feed = replay(TEN)
    clock.advance(100)
    assert seconds(feed) == 0
    assert await due(feed) == TEN[:1]


async def test_chunks_are_bounded_and_the_clock_waits_for_what_is_not_handed_over(
    replay: OpenReplay, clock: ManualClock
) -> None:
    feed = replay(TEN, chunk_size=4)
    await due(feed)
    clock.advance(7)
    assert await due(feed) == TEN[1:5]
    assert seconds(feed) == 5
    assert await due(feed) == TEN[5:8]
    assert seconds(feed) == 7


async def test_the_end_is_none_until_somebody_moves_back(replay: OpenReplay) -> None:
    feed = replay(TEN, speed=None)
    assert await due(feed) == TEN
    assert await feed.read() is None
    assert seconds(feed) == 9
    feed.move(8)
    assert seconds(feed) == 7
    assert await due(feed) == TEN[8:]
    assert await feed.read() is None


async def test_pause_holds_time_and_events(replay: OpenReplay, clock: ManualClock) -> None:
    feed = replay(TEN)
    await due(feed)
    clock.advance(0.5)
    feed.pause(True)
    clock.advance(5)
    reading = await rest(feed)
    assert seconds(feed) == 0.5
    feed.pause(False)
    assert await reading == []
    clock.advance(0.5)
    assert await due(feed) == TEN[1:2]
    assert seconds(feed) == 1


async def test_steps_go_through_although_paused(replay: OpenReplay) -> None:
    feed = replay(TEN, paused=True)
    reading = await rest(feed)
    feed.step()
    assert await reading == []
    assert await due(feed) == TEN[:1]
    feed.step(3)
    assert await due(feed) == TEN[1:4]
    assert seconds(feed) == 3
    reading = await rest(feed)
    await feed.aclose()
    assert await reading is None


async def test_a_step_means_nothing_while_playing(replay: OpenReplay) -> None:
    feed = replay(TEN)
    feed.step(5)
    assert await due(feed) == TEN[:1]
    feed.pause(True)
    (await rest(feed)).cancel()


async def test_a_change_of_speed_concerns_the_future_only(
    replay: OpenReplay, clock: ManualClock
) -> None:
    feed = replay(TEN)
    await due(feed)
    clock.advance(0.5)
    feed.set_speed(10)
    assert seconds(feed) == 0.5
    clock.advance(0.35)
    assert await due(feed) == TEN[1:5]
    feed.set_speed(1)
    clock.advance(1)
    assert await due(feed) == TEN[5:6]


async def test_speed_is_held_within_its_bounds(replay: OpenReplay) -> None:
    feed = replay(TEN, speed=5000)
    assert feed.speed == 1000
    feed.set_speed(0)
    assert feed.speed == 0.1
    feed.set_speed(None)
    assert feed.speed is None


async def test_moving_while_it_plays_continues_from_there(
    replay: OpenReplay, clock: ManualClock
) -> None:
    feed = replay(TEN)
    await due(feed)
    reading = await rest(feed)
    feed.move(feed.index_at(FIRST_DAY + timedelta(seconds=6.5)))
    assert await reading == []
    assert (feed.index, seconds(feed)) == (7, 6)
    clock.advance(1)
    assert await due(feed) == TEN[7:8]
    feed.move(-3)
    assert (feed.index, seconds(feed)) == (0, 0)
    feed.move(99)
    assert (feed.index, seconds(feed)) == (10, 9)


async def test_a_place_in_time_counts_what_happens_up_to_it(replay: OpenReplay) -> None:
    feed = replay([line(0), line(2, "a"), line(2, "b"), line(3)])
    places = [feed.index_at(FIRST_DAY + timedelta(seconds=at)) for at in (-1, 0, 1, 2, 3, 9)]
    assert places == [0, 1, 1, 3, 4, 4]
    assert feed.span == (FIRST_DAY, FIRST_DAY + timedelta(seconds=3))


async def test_a_loop_begins_again_with_an_empty_chunk(replay: OpenReplay) -> None:
    feed = replay(TEN, speed=None, loop=True)
    for _ in range(3):
        assert await due(feed) == TEN
        assert await feed.read() == []
        assert feed.index == 0


async def test_a_paused_loop_stays_at_its_end_until_it_is_stepped(replay: OpenReplay) -> None:
    feed = replay(TEN, paused=True, loop=True)
    feed.step(10)
    assert await due(feed) == TEN
    reading = await rest(feed)
    feed.step()
    assert await reading == []
    assert await feed.read() == []
    assert feed.index == 0


async def test_files_follow_one_another_and_time_never_goes_back(
    replay: OpenReplay, clock: ManualClock
) -> None:
    first = [line(5, "a"), line(3, "b"), line(7, "c")]
    second = [line(1, "d"), line(8, "e")]
    feed = replay(first, second)
    assert await due(feed) == first[:2]
    clock.advance(2)
    assert await due(feed) == first[2:]
    assert await due(feed) == second[:1]
    assert seconds(feed) == 7
    feed.set_speed(None)
    last = await feed.read()
    assert last is not None
    assert [(one.raw, one.position) for one in last] == [
        (second[1], f"1.jsonl: line 2, byte {len(second[0]) + 1}")
    ]
    assert feed.name == "0.jsonl, 1.jsonl"


async def test_events_from_before_happen_with_the_newest_so_far(replay: OpenReplay) -> None:
    feed = replay([line(at) for at in (5, 3, 7, 1, 8)], paused=True)
    times = []
    for _ in range(5):
        feed.step()
        await due(feed)
        times.append(seconds(feed))
    assert times == [5, 5, 7, 7, 8]
    assert feed.index_at(FIRST_DAY + timedelta(seconds=6)) == 2


async def test_a_line_without_a_usable_time_happens_with_the_one_before(
    replay: OpenReplay, clock: ManualClock
) -> None:
    odd = [
        line(None, "first"),
        line(2),
        line(None, "none"),
        b"not even JSON",
        b'{"event_timestamp": "9999-01-01T00:00:00Z"}',
        b'{"event_timestamp": "soon"}',
        line(4),
        b'{"event_timestamp"  :  "2026-02-03T08:00:06Z"}',
        b'{"event_timestamp": 1770105608}',
    ]
    feed = replay(odd)
    assert await due(feed) == odd[:6]
    clock.advance(2)
    assert await due(feed) == odd[6:7]
    clock.advance(2)
    assert await due(feed) == odd[7:8]
    clock.advance(2)
    assert await due(feed) == odd[8:]


async def test_without_any_time_everything_happens_at_once(
    replay: OpenReplay, clock: ManualClock
) -> None:
    feed = replay([line(None, "a"), line(None, "b")])
    assert len(await due(feed)) == 2
    assert feed.now is None
    assert feed.span is None
    assert ReplayClock(feed, clock).now() == clock.now()


@pytest.mark.parametrize("loop", [False, True])
async def test_a_recording_may_be_empty(replay: OpenReplay, loop: bool) -> None:
    feed = replay([], [], loop=loop)
    assert await feed.read() is None
    assert (feed.index, feed.length, feed.span, feed.now) == (0, 0, None, None)


async def test_the_clock_of_the_replayed_world(replay: OpenReplay, clock: ManualClock) -> None:
    feed = replay(TEN, speed=4.0)
    world = ReplayClock(feed)
    began = world.monotonic()
    assert world.now() == FIRST_DAY
    await due(feed)
    clock.advance(0.125)
    assert world.now() == FIRST_DAY + timedelta(seconds=0.5)
    assert world.monotonic() - began == 0.5


async def test_replay_begins_before_the_index_is_complete(replay: OpenReplay) -> None:
    padding = "x" * 1000
    many = [line(number, f"{number:09d}{padding}") for number in range(2000)]
    assert len(b"\n".join(many)) > 4 * BLOCK_BYTES
    feed = replay(many, speed=None)
    assert await due(feed) == many[: feed.index]
    assert feed.index <= feed.length < len(many)
    await feed.indexed()
    assert feed.length == len(many)
    assert feed.span == (FIRST_DAY, FIRST_DAY + timedelta(seconds=1999))
    taken = [feed.index]
    while (chunk := await feed.read()) is not None:
        assert [envelope.raw for envelope in chunk] == many[taken[-1] : feed.index]
        taken.append(feed.index)
    assert taken[-1] == len(many)


async def test_indexing_gives_way_to_others(replay: OpenReplay) -> None:
    feed = replay([line(number, "x" * 1000) for number in range(3000)])
    turns = 0
    indexing = asyncio.create_task(feed.indexed())
    while not indexing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 3000 * 1000 // BLOCK_BYTES


async def test_odd_lines_come_as_they_are(tmp_path: Path) -> None:
    long = line(1, "x" * MAX_EVENT_BYTES)
    file = EventFile(tmp_path / "odd.jsonl")
    file.put(b"\n".join([line(0), long, line(2), b'{"half']))
    taken = await drain(ReplayFeed([file.path], speed=None))
    assert [(len(one.raw), one.oversize, one.truncated) for one in taken] == [
        (len(line(0)), 0, False),
        (64 * 1024, len(long), False),
        (len(line(2)), 0, False),
        (6, 0, True),
    ]


async def test_a_file_that_became_shorter_is_an_error(replay: OpenReplay, tmp_path: Path) -> None:
    feed = replay(TEN, paused=True)
    EventFile(tmp_path / "0.jsonl").truncate(len(TEN[0]))
    feed.step(2)
    with pytest.raises(FeedUnavailable, match="became shorter"):
        await feed.read()
