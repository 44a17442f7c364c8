"""The command line on a real Redis: a real batch, its true counts, and the same events again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from envelopes import VECTORS, vector
from redis_servers import empty, rules_of, shared_redis, url_for

from bcs_tui.cli import main

TRUTH = json.loads((VECTORS / "ground_truth.json").read_text())["comprehensive_batch"][0]
BATCH = TRUTH["batch_id"]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    server = shared_redis()
    empty(server)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BCS_TUI_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("BCS_ENVIRONMENT", "development")
    monkeypatch.setenv("BCS_REDIS_URL", server.url)
    monkeypatch.setenv("BCS_POSTGRES_ENABLED", "false")
    (tmp_path / "none.toml").write_text("")

    def run(*words: object, code: int = 0) -> str:
        assert main([str(word) for word in words]) == code
        return capsys.readouterr().out

    return run


def account_of(text: str) -> dict[str, Any]:
    account: dict[str, Any] = json.loads(text)
    told = ("applied", "ignored", "duplicates", "dead_letters")
    assert account["read"] == sum(account[name] for name in told)
    return account


def test_a_real_batch_in_redis(run: Callable[..., str], tmp_path: Path) -> None:
    source = VECTORS / "comprehensive_batch.jsonl"
    first = account_of(run("ingest", source, "--backend", "redis", "--json"))
    assert (first["read"], first["dead_letters"], first["batches"]) == (218, 0, 1)
    check_truth(run)
    essays = run("essays", BATCH, "--jsonl")

    raws = vector("comprehensive_batch") * 2
    random.Random(5).shuffle(raws)
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"\n".join(raws) + b"\n")
    second = account_of(run("ingest", again, "--json"))
    assert (second["applied"], second["ignored"]) == (0, 2 * first["ignored"])
    check_truth(run)
    assert run("essays", BATCH, "--jsonl") == essays


def check_truth(run: Callable[..., str]) -> None:
    [summary] = json.loads(run("ls", "--json"))["batches"]
    assert summary["batch_id"] == BATCH
    shown = json.loads(run("show", BATCH, "--json"))
    assert {**shown, "generated_at": ""} == {**summary, "generated_at": ""}
    assert shown["expected_essays"] == shown["seen_essays"] == shown["total_essays"] == 24
    for step, truth in TRUTH["steps"].items():
        counts = shown["step_summaries"][step]
        assert counts["completed_count"] == truth["succeeded"]
        assert counts["failed_count"] == truth["failed"]
        assert counts["phase_status"] == truth["phase_status"]
        failed = run("essays", BATCH, "--jsonl", "--state", "failed", "--step", step)
        names = [json.loads(line)["essay_id"] for line in failed.splitlines()]
        assert names == truth["failed_essay_ids"]


def test_essays_that_cannot_be_read(run: Callable[..., str]) -> None:
    with redis.Redis.from_url(shared_redis().url, driver_info=None, protocol=2) as client:
        client.set("bcs:essay_state:bad1:e1", '{"completed_steps": ["nlp"], "step_metadata": {}}')
        client.set("bcs:essay_state:bad1:e2", b"\xff")
        client.lpush("bcs:essay_state:bad1:e3", "x")
    one, two, three = [json.loads(line) for line in run("essays", "bad1", "--jsonl").splitlines()]
    assert (one["step_status"], one["created_at"]) == ({"nlp": "completed"}, None)
    assert "trouble" not in one
    for essay in (two, three):
        assert (essay["step_status"], essay["created_at"]) == ({"nlp": "unknown"}, None)
    assert (two["trouble"], three["trouble"]) == ("not UTF-8", "its key holds another type")
    assert "not UTF-8" in run("essays", "bad1")

    assert "2 essays cannot be read" in run("show", "bad1")
    assert "2 essays cannot be read" in json.loads(run("show", "bad1", "--json"))["doubt"]
    nlp = json.loads(run("show", "bad1", "--json"))["step_summaries"]["nlp"]
    assert (nlp["completed_count"], nlp["pending_count"], nlp["total_count"]) == (1, 2, 3)
    assert nlp["unknown_count"] == 2
    heading, counts = [line.split() for line in run("show", "bad1").splitlines()[-2:]]
    told = dict(zip(heading, counts, strict=True))
    assert (told["COMPLETED"], told["UNKNOWN"], told["PENDING"]) == ("1", "2", "0")
    assert "essay e2 cannot be read: not UTF-8" in run("show", "bad1", "--audit")
    found = json.loads(run("show", "bad1", "--audit", "--strict", "--json", code=7))
    assert list(found["unreadable"]) == ["e2", "e3"]


def test_dead_letters_in_redis(run: Callable[..., str], tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_bytes(b'{"nothing": 1}\nno json\n')
    account = account_of(run("ingest", source, "--json"))
    assert account["dead_letters"] == 2
    letters = [json.loads(line) for line in run("dead-letters", "--jsonl").splitlines()]
    assert [letter["position"][:6] for letter in letters] == ["line 1", "line 2"]


def test_an_unknown_batch_is_not_found(run: Callable[..., str]) -> None:
    run("show", "nobody", code=5)
    assert json.loads(run("ls", "--json")) == {"batches": []}


def test_redis_that_is_not_there(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_REDIS_URL", "redis://:CANARY-7f3a@127.0.0.1:1/0")
    run("ls", code=69)


def test_a_password_off_this_machine_takes_tls_or_the_operators_word(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # An address that leads to this machine and does not say so.
    monkeypatch.setenv("BCS_REDIS_URL", shared_redis().url.replace("127.0.0.1", "0.0.0.0"))
    for words in (["ls"], ["ingest", "redis-stream:bcs:events"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "BCS_REDIS_URL: the password would be sent unencrypted; use rediss://" in said
        assert shared_redis().password not in said
    assert "refused: BCS_REDIS_URL" in run("info")
    assert json.loads(run("ls", "--json", "--insecure-tls")) == {"batches": []}
    monkeypatch.setenv("BCS_INSECURE_TLS", "true")
    assert json.loads(run("ls", "--json")) == {"batches": []}
    info = json.loads(run("info", "--json"))
    assert info["redis_traffic"] == "not encrypted, as BCS_INSECURE_TLS allows"
    assert info["postgresql_traffic"] == "no database is named"


def test_sentinel_is_refused_in_one_line(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("info")
    assert main(["ls", "--redis-url", "redis+sentinel://:CANARY-7f3a@a:26379,b:26379/m"]) == 2
    said = capsys.readouterr().err
    assert "BCS_REDIS_URL: Sentinel is not supported; name the master itself" in said
    assert "CANARY" not in said


def test_a_list_that_may_lack_something_says_so(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.backends.redis.STEPS_AT_ONCE", 2)
    with redis.Redis.from_url(shared_redis().url) as client:
        client.mset({f"bcs:essay_state:b{number}:e": "{}" for number in range(30)})
        assert main(["ls"]) == 0
        assert capsys.readouterr().err == ""
        client.mset({f"another:{number}": "" for number in range(10_000)})
    assert main(["ls"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not all keys of Redis were looked through" in said


def test_info_says_on_demand_what_the_backend_says(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "backend says" not in run("info")
    said = json.loads(run("info", "--check", "--json"))["backend_says"]
    assert said.startswith("the Redis account could write; Redis keeps no log of writes")
    url = url_for(shared_redis(), "bcs_observer", rules_of("bcs_observer"))
    monkeypatch.setenv("BCS_REDIS_URL", url)
    assert "account" not in json.loads(run("info", "--check", "--json"))["backend_says"]
    monkeypatch.setenv("BCS_REDIS_URL", "redis://:CANARY-7f3a@127.0.0.1:1/0")
    assert main(["info", "--check"]) == 69
    answer = capsys.readouterr()
    assert "BCS_REDIS_URL" in answer.out
    assert "Redis at 127.0.0.1:1 cannot be reached" in answer.err
    assert "CANARY" not in answer.out + answer.err
