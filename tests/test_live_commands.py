"""`publish` and `ingest` with a real server, as scripts and services run them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import redis
import uvloop
from envelopes import registered, spellchecked

from bcs_tui.cli import main, parser
from bcs_tui.commands import progress
from bcs_tui.commands.samples import sample
from engine.servers import PrivateRedis

ROOT = Path(__file__).parent.parent


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class Run:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: object) -> Answer:
        code = main([str(word) for word in argv])
        captured = self._capsys.readouterr()
        return Answer(code, captured.out, captured.err)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_server: PrivateRedis) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BCS_") or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BCS_SQLITE_PATH", "b.db")
    monkeypatch.setenv("BCS_REDIS_URL", redis_server.url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


def test_what_is_published_is_ingested(run: Run, client: redis.Redis) -> None:
    lines = sample("bad_lines").read_bytes().splitlines()
    published = run("publish", sample("bad_lines"), "redis-stream:events", "--json").document
    assert published["read"] == published["sent"] == client.xlen("events") <= len(lines)
    assert (published["repeated"], published["too_long"]) == (0, 0)
    stored = [fields[b"data"] for _, fields in client.xrange("events")]
    assert set(stored) <= {line.removesuffix(b"\r") for line in lines}
    straight = run("ingest", sample("bad_lines"), "--json", "--sqlite-path", "straight.db").document
    account = run("ingest", "redis-stream:events", "--json").document
    for name in ("read", "applied", "ignored", "duplicates", "dead_letters", "batches"):
        assert account[name] == straight[name], name
    again = run("ingest", "redis-stream:events", "--json").document
    assert again["read"] == 0
    letters = run("dead-letters", "--jsonl").out.splitlines()
    assert len(letters) == account["dead_letters"]
    assert json.loads(letters[0])["source"] == "redis-stream:events"
    assert re.fullmatch(r"\d{13,}-\d+", json.loads(letters[0])["position"])


@pytest.mark.parametrize(
    ("source", "is_fast"),
    [("redis-stream:", True), ("redis-pubsub:events", True), ("-", False), ("a.jsonl", False)],
)
def test_only_live_feeds_are_read_on_the_loop_that_is_made_for_sockets(
    source: str, is_fast: bool
) -> None:
    arguments = parser(["ingest"]).parse_args(["ingest", source])
    loop_of = arguments.loop_of(arguments)
    assert loop_of is (uvloop.new_event_loop if is_fast else None)


def test_the_stream_of_the_contract_is_the_default(run: Run, client: redis.Redis) -> None:
    run("publish", sample("one_batch"), "redis-stream:", "--most-entries", 100)
    assert client.type("bcs:events") == b"stream"
    assert "duplicates" in run("ingest", "redis-stream:").out
    assert client.xinfo_groups("bcs:events")[0]["name"] == b"bcs-tui"


def test_a_named_consumer_finds_what_it_left(run: Run, client: redis.Redis) -> None:
    client.xadd("events", {"data": registered("b1", ["e1"], 1)})
    client.xgroup_create("events", "bcs-tui", "0")
    client.xreadgroup("bcs-tui", "worker-1", {"events": ">"})
    answer = run("ingest", "redis-stream:events", "--json")
    assert answer.document["read"] == 0
    assert "1 entry in the hands of other consumers" in answer.err
    answer = run("ingest", "redis-stream:events", "--consumer", "worker-1", "--json")
    assert answer.document["applied"] == 1


def test_a_strict_ingest_does_not_hide_what_was_missed(run: Run, client: redis.Redis) -> None:
    client.xgroup_create("events", "bcs-tui", "0", mkstream=True)
    client.xadd("events", {"data": registered("b1", ["e1"], 1)})
    client.xreadgroup("bcs-tui", "ghost", {"events": ">"})
    client.xtrim("events", maxlen=0, approximate=False)
    answer = run("ingest", "redis-stream:events", "--strict")
    assert answer.code == 7
    assert "1 entry lost: trimmed by the producer" in answer.err


def test_what_cannot_be_sent_or_ingested_is_refused(
    run: Run, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("text", "x")
    events = sample("one_batch")
    for argv, code, words in (
        (("publish", "absent.jsonl", "redis-stream:s"), 2, "no such file"),
        (("publish", events, "kafka:s"), 2, "kafka:s is no live feed; name redis-stream:KEY"),
        (("publish", events, "redis-stream:text"), 2, "redis-stream:text: WRONGTYPE"),
        (("ingest", "redis-stream:text"), 2, "redis-stream:text: WRONGTYPE"),
        (("ingest", events, "--consumer", "x"), 2, "--consumer names a reader of redis-stream"),
    ):
        answer = run(*argv)
        assert (answer.code, words in answer.err) == (code, True), answer
    assert not Path("b.db").exists()
    monkeypatch.setenv("BCS_REDIS_URL", "redis://:CANARY-7f3a@127.0.0.1:1")
    for argv in (
        ("ingest", "redis-stream:events"),
        ("ingest", "redis-pubsub:events"),
        ("publish", events, "redis-stream:events"),
        ("publish", events, "redis-pubsub:events"),
    ):
        answer = run(*argv)
        assert (answer.code, "Redis at 127.0.0.1:1 cannot be reached" in answer.err) == (69, True)
        assert "CANARY" not in answer.err
    wrong = "redis://:CANARY-7f3a@" + client_place(client)
    monkeypatch.setenv("BCS_REDIS_URL", wrong)
    assert run("ingest", "redis-stream:events").code == 4
    assert run("publish", events, "redis-pubsub:events").code == 4


def test_a_stream_that_is_not_there_is_refused_and_not_made(run: Run, client: redis.Redis) -> None:
    answer = run("ingest", "redis-stream:typo")
    assert (answer.code, "redis-stream:typo: there is no such stream" in answer.err) == (2, True)
    assert not client.exists("typo")


def test_a_database_number_out_of_range_is_told(
    run: Run, redis_server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = urlsplit(redis_server.url)._replace(path="/99").geturl()
    monkeypatch.setenv("BCS_REDIS_URL", elsewhere)
    answer = run("ingest", "redis-stream:events")
    assert (answer.code, "has no database of the number" in answer.err) == (69, True), answer


def client_place(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


def test_publishing_tells_what_a_reader_should_know(run: Run, client: redis.Redis) -> None:
    Path("long.jsonl").write_bytes(b"{}\n" + b"x" * (4 * 1024 * 1024 + 1) + b"\n{}\n")
    answer = run("publish", "long.jsonl", "redis-pubsub:events")
    assert answer.code == 0
    assert answer.out.startswith("read 3 · sent 2 · repeated 0 · too long 1 · seconds ")
    assert "1 lines are longer than an event may be" in answer.err
    assert "nobody was subscribed" in answer.err


def test_publishing_keeps_the_pace_of_the_events(run: Run, client: redis.Redis) -> None:
    Path("two.jsonl").write_bytes(
        spellchecked("b1", "e1", seconds=0) + b"\n" + spellchecked("b1", "e2", seconds=30) + b"\n"
    )
    assert run("publish", "two.jsonl", "redis-stream:events", "--speed", 100).code == 0
    (first, _), (second, _) = client.xrange("events")
    apart = int(second.partition(b"-")[0]) - int(first.partition(b"-")[0])
    assert apart >= 250


def test_publishing_shows_its_progress_on_a_terminal(
    run: Run, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    answer = run("publish", sample("busy_day"), "redis-stream:events", "--json")
    assert answer.document["sent"] == client.xlen("events")
    assert "%  " in answer.err
    assert answer.err.endswith("\r\x1b[K")
    assert progress.bar(0.5).startswith("━━━━━━━━━━━━────")


def launch(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bcs_tui", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_a_channel_is_followed_until_a_signal(run: Run, client: redis.Redis) -> None:
    with launch("ingest", "redis-pubsub:", "--json") as process:
        wait_for(lambda: client.pubsub_numsub("bcs:events")[0][1] == 1)
        assert run("publish", sample("one_batch"), "redis-pubsub:", "--json").document["sent"]
        wait_for(lambda: run("ls", "--json").out.count("batch_id") == 1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    account = json.loads(out)
    assert account["batches"] == 1
    assert account["read"] == len(sample("one_batch").read_bytes().splitlines())
    assert err == b"bcs-tui: a channel has no end; ctrl+c ends this\n"


def test_who_waits_for_a_stream_that_is_not_there_is_told(client: redis.Redis) -> None:
    with launch("ingest", "redis-stream:typo", "--follow", "--json") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert b"redis-stream:typo: there is no such stream yet" in said


def test_a_stream_is_followed_through_an_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with PrivateRedis({"appendonly": "yes", "appendfsync": "always"}) as server:
        monkeypatch.setenv("BCS_REDIS_URL", server.url)
        assert run("publish", sample("one_batch"), "redis-stream:").code == 0
        with launch("ingest", "redis-stream:", "--follow", "--json") as process:
            wait_for(lambda: run("ls", "--json").out.count("batch_id") == 1)
            server.kill()
            assert process.stderr is not None
            assert b"cannot be reached" in process.stderr.readline()
            server.start()
            assert b"in order again" in process.stderr.readline()
            assert b"reading again after an outage" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(out)["dead_letters"] == 0
        assert err == b""
        with redis.Redis.from_url(server.url) as client:
            assert client.xpending("bcs:events", "bcs-tui")["pending"] == 0


def test_a_pipe_is_published_through_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [registered("b1", ["e1", "e2"], 2), spellchecked("b1", "e1"), spellchecked("b1", "e2")]
    with PrivateRedis({"appendonly": "yes", "appendfsync": "always"}) as server:
        monkeypatch.setenv("BCS_REDIS_URL", server.url)
        with launch("publish", "-", "redis-stream:", "--json") as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(lines[0] + b"\n")
            process.stdin.flush()
            with redis.Redis.from_url(server.url) as client:
                wait_for(lambda: client.xlen("bcs:events") == 1)
            server.kill()
            process.stdin.write(lines[1] + b"\n")
            process.stdin.flush()
            assert b"cannot be reached" in process.stderr.readline()
            server.start()
            assert b"in order again" in process.stderr.readline()
            out, _ = process.communicate(lines[2] + b"\n", timeout=60)
        assert json.loads(out)["read"] == json.loads(out)["sent"] == 3
        with redis.Redis.from_url(server.url) as client:
            assert [fields[b"data"] for _, fields in client.xrange("bcs:events")] == lines


def test_a_pipe_has_a_pace_of_its_own(run: Run) -> None:
    answer = run("publish", "-", "redis-stream:", "--speed", 2)
    assert (answer.code, "a pace of its own" in answer.err) == (2, True)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
