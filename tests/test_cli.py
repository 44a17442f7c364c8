"""The command line as scripts use it: what is printed where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from envelopes import ListFeed
from rich.cells import cell_len

from bcs_tui.cli import main
from bcs_tui.commands import progress
from bcs_tui.commands.plain import as_json, print_facts, print_table
from bcs_tui.commands.samples import sample
from engine import (
    Engine,
    EssayProcessingState,
    JsonlFeed,
    NotFound,
    Settings,
    View,
    config_path,
    open_engine,
)
from engine.backends.mock import MockBatchStateRepository

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parent.parent
ARCHIVE_ANSWER = "BCS_POSTGRES_ENABLED=false to keep state in Redis alone"


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run: TypeAlias = Callable[..., Answer]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BCS_") or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: object) -> Answer:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def one_batch(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sample of one batch, ingested into the file that the environment names."""
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    assert run("ingest", sample("one_batch")).code == 0
    batch_id = run("ls", "--json").document["batches"][0]["batch_id"]
    assert isinstance(batch_id, str)
    return batch_id


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def told_by_the_services(event_type: str) -> dict[str, str]:
    """Return the status of each essay, as the events of one service say it."""
    return {
        event["data"]["entity_id"]: event["data"]["status"]
        for event in events(sample("one_batch"))
        if event["event_type"] == event_type
    }


# --- ingest --------------------------------------------------------------------------------


def test_ingest_prints_its_account(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    answer = run("ingest", sample("one_batch"), "--json")
    account = answer.document
    assert list(account) == [
        "read",
        "applied",
        "ignored",
        "duplicates",
        "dead_letters",
        "batches",
        "seconds",
        "events_per_second",
    ]
    assert account["read"] == len(events(sample("one_batch")))
    assert account["read"] == account["applied"] + account["ignored"]
    assert account["batches"] == 1
    assert answer.err == ""


def disturbed(path: Path, order: str) -> Path:
    lines = path.read_bytes().splitlines(keepends=True)
    if order == "shuffled":
        random.Random(7).shuffle(lines)
    elif order == "doubled":
        lines = [line for line in lines for _ in range(2)]
    other = Path(f"{order}.jsonl")
    other.write_bytes(b"".join(lines))
    return other


@pytest.mark.parametrize("order", ["again", "shuffled", "doubled"])
def test_order_and_repetition_change_nothing(run: Run, one_batch: str, order: str) -> None:
    def shown() -> Any:
        return run("show", one_batch, "--json").document | {"generated_at": None}

    before = shown()
    account = run("ingest", disturbed(sample("one_batch"), order), "--json").document
    assert shown() == before
    assert account["applied"] == 0
    assert account["duplicates"] + account["ignored"] == account["read"]
    fresh = run("ingest", disturbed(sample("one_batch"), order), "--sqlite-path", "y.db")
    assert fresh.code == 0
    other = run("show", one_batch, "--json", "--sqlite-path", "y.db").document
    assert other | {"generated_at": None} == before


def test_ingest_reads_standard_input(tmp_path: Path) -> None:
    with sample("one_batch").open("rb") as source:
        done = launch("ingest", "-", "--json", "--sqlite-path", "x.db", stdin=source)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert json.loads(out)["applied"] > 0


def test_bad_lines_are_kept_and_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    answer = run("ingest", sample("bad_lines"), "--json")
    count = answer.document["dead_letters"]
    assert count > 0
    assert f"{count} unusable" in answer.err
    strict = run("ingest", sample("bad_lines"), "--strict", "--json")
    assert strict.code == 7
    assert json.loads(strict.out)["dead_letters"] == count
    letters = run("dead-letters", "--jsonl").lines
    assert len(letters) == count, "the second time they are the same"
    assert run("ingest", sample("one_batch"), "--strict").code == 0


def test_the_mock_keeps_nothing_and_says_so(run: Run) -> None:
    answer = run("ingest", sample("one_batch"), "--json", "--backend", "mock")
    assert answer.document["applied"] > 0
    assert "keeps nothing" in answer.err
    assert "USE_MOCK_REPOSITORY, flag" in answer.err


def test_ingest_in_words(run: Run) -> None:
    answer = run("ingest", sample("one_batch"), "--sqlite-path", "x.db")
    assert answer.out.startswith(f"read {len(events(sample('one_batch')))} · applied ")


def test_a_bad_source_leaves_no_database_behind(run: Run) -> None:
    assert run("ingest", "nowhere.jsonl", "--sqlite-path", "x.db").code == 2
    assert not Path("x.db").exists()


# --- reading -------------------------------------------------------------------------------


def test_show_has_the_counts_that_the_services_told(run: Run, one_batch: str) -> None:
    told = list(told_by_the_services("huleedu.batch.spellcheck.phase.completed.v1").values())
    summary = run("show", one_batch, "--json").document
    step = summary["step_summaries"]["spellcheck"]
    assert step["completed_count"] == told.count("completed")
    assert step["failed_count"] == told.count("failed") > 0
    assert step["total_count"] == summary["total_essays"] == len(told)
    for one in summary["step_summaries"].values():
        counts = ("completed_count", "failed_count", "skipped_count", "pending_count")
        assert sum(one[name] for name in counts) == one["total_count"]


def test_show_in_words(run: Run, one_batch: str) -> None:
    lines = run("show", one_batch).out.splitlines()
    assert lines[0].split() == ["batch", one_batch]
    assert lines[-4].split()[0] == "spellcheck"
    assert len({len(line.split()) for line in lines[-5:]}) == 1


def test_ls_in_words_and_by_line(run: Run, one_batch: str) -> None:
    heading, row = run("ls").out.splitlines()
    assert heading.split()[:3] == ["BATCH", "STATUS", "PIPELINE"]
    assert row.split()[:3] == [one_batch, "completed_with_failures", "comprehensive"]
    (line,) = run("ls", "--jsonl").lines
    (listed,) = run("ls", "--json").document["batches"]
    assert line | {"generated_at": None} == listed | {"generated_at": None}


def test_ls_lists_more_than_a_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    registration = sample("one_batch").read_text("utf-8").splitlines()[0]
    own = json.loads(registration)["data"]["entity_id"]
    names = [f"batch-{number:04}" for number in range(1001)]
    Path("many.jsonl").write_text("\n".join(registration.replace(own, name) for name in names))
    assert run("ingest", "many.jsonl").code == 0
    assert [one["batch_id"] for one in run("ls", "--jsonl").lines] == names


def test_essays_by_state_and_step(run: Run, one_batch: str) -> None:
    told = told_by_the_services("huleedu.batch.spellcheck.phase.completed.v1")
    failed = sorted(essay for essay, status in told.items() if status == "failed")
    select = ("essays", one_batch, "--state", "failed", "--step")
    found = run(*select, "spellcheck", "--jsonl").lines
    assert [one["essay_id"] for one in found] == failed
    assert list(found[0]) == [
        "batch_id",
        "essay_id",
        "completed_steps",
        "step_status",
        "step_metadata",
        "created_at",
        "last_updated",
    ]
    assert found[0]["step_status"]["spellcheck"] == "failed"
    assert found[0]["completed_steps"] == []
    assert run(*select, "nlp", "--jsonl").lines == []
    document = run("essays", one_batch, "--json").document
    assert [one["essay_id"] for one in document["essays"]] == sorted(told)
    by_any_step = run("essays", one_batch, "--state", "failed", "--jsonl").lines
    assert by_any_step == found


def test_essays_in_words(run: Run, one_batch: str) -> None:
    heading, *rows = run("essays", one_batch, "--step", "nlp").out.splitlines()
    assert heading.split() == ["ESSAY", "NLP", "LAST", "UPDATED"]
    assert {row.split()[1] for row in rows} == {"completed", "skipped"}


def test_a_step_that_does_not_exist(run: Run, one_batch: str) -> None:
    answer = run("essays", one_batch, "--step", "nope")
    assert answer.code == 5
    assert "spellcheck, cj_assessment, nlp, ai_feedback" in answer.err


def test_dead_letters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    raw = b'{"event_id": "\xff\x1b[2J"}'
    Path("bad.jsonl").write_bytes(raw + b"\n[]\n")
    assert run("ingest", "bad.jsonl").code == 0
    first, second = run("dead-letters", "--jsonl").lines
    assert list(first) == [
        "received_at",
        "source",
        "position",
        "reason",
        "payload",
        "message",
        "field",
        "sha256",
        "size",
    ]
    assert first["reason"] == "not_utf8"
    assert first["payload"] == '{"event_id": "\\xff\x1b[2J"}'
    assert first["size"] == len(raw)
    assert first["received_at"].endswith("Z")
    assert second["reason"] == "not_object"
    assert run("dead-letters", "--json").document["dead_letters"] == [first, second]
    rows = run("dead-letters").out.splitlines()
    assert [row.split()[1] for row in rows] == ["SOURCE", "bad.jsonl", "bad.jsonl"]


def test_no_dead_letters(run: Run, one_batch: str) -> None:
    answer = run("dead-letters")
    assert (answer.code, answer.out) == (0, "")
    assert "no dead letters" in answer.err
    assert run("dead-letters", "--json").document == {"dead_letters": []}


def test_plan(run: Run, one_batch: str) -> None:
    plan = run("plan", one_batch, "nlp", "--json").document
    assert (plan["batch_id"], plan["pipeline"]) == (one_batch, "nlp")
    assert [(one["phase"], one["runs"]) for one in plan["phases"]] == [
        ("spellcheck", True),
        ("nlp", True),
    ]
    assert "lack it" in plan["phases"][0]["reason"]
    assert run("plan", one_batch, "nlp").out.splitlines()[1].split()[:2] == ["spellcheck", "runs"]
    unknown = run("plan", one_batch, "nope")
    assert unknown.code == 5
    assert "comprehensive" in unknown.err


def test_info_shows_where_settings_come_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_REDIS_URL", "redis://user:CANARY-7f3a@h")
    config_path().parent.mkdir(parents=True)
    config_path().write_text("stall_seconds = 60")
    answer = run("info", "--json", "--sqlite-path", "x.db")
    info = answer.document
    assert info["backend"] == "sqlite"
    assert info["config_file"] == str(config_path())
    assert info["settings"]["SQLITE_PATH"] == {"value": "x.db", "origin": "flag"}
    assert info["settings"]["REDIS_URL"] == {"value": "redis://user:***@h", "origin": "environment"}
    assert info["settings"]["STALL_SECONDS"] == {"value": "60.0", "origin": "config.toml"}
    plain = run("info")
    assert "CANARY" not in answer.out + plain.out
    assert [line.split() for line in plain.out.splitlines() if "STALL" in line] == [
        ["BCS_STALL_SECONDS", "60.0", "config.toml"]
    ]


HOSTILE = "\x1b]0;title\x07\u202e\x9b2J\x7f"


def test_hostile_text_in_notes(run: Run, one_batch: str) -> None:
    answer = run("show", HOSTILE)
    assert answer.code == 5
    assert answer.err.removesuffix("\n").isprintable()


def test_hostile_text_in_tables_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", ">N"), [(HOSTILE, "1"), ("文字", "10")])
    print_facts({"batch": HOSTILE})
    heading, first, second, fact = capsys.readouterr().out.splitlines()
    for line in (first, fact):
        assert line.isprintable()
        assert "title" in line
    widths = [cell_len(line) for line in (heading, first, second)]
    assert widths[0] == widths[1] == widths[2]


def test_hostile_text_in_json() -> None:
    printed = as_json({"id": HOSTILE})
    assert printed.isascii()
    assert printed.isprintable()
    assert json.loads(printed) == {"id": HOSTILE}
    model = EssayProcessingState(
        batch_id=HOSTILE, essay_id="\U0001f600", created_at=EPOCH, last_updated=EPOCH
    )
    printed = as_json(model)
    assert printed.isascii()
    assert printed.isprintable()
    assert EssayProcessingState.model_validate_json(printed) == model


# --- trouble -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("ls",), ("dead-letters",)])
def test_an_empty_mock_is_no_error(run: Run, verb: tuple[str, ...]) -> None:
    answer = run(*verb, "--backend", "mock")
    assert (answer.code, answer.out) == (0, "")
    assert "--sqlite-path FILE" in answer.err


@pytest.mark.parametrize("verb", [("show", "b"), ("essays", "b"), ("plan", "b", "nlp")])
def test_nothing_is_found_in_an_empty_mock(run: Run, verb: tuple[str, ...]) -> None:
    answer = run(*verb, "--backend", "mock")
    assert (answer.code, answer.out) == (5, "")
    assert "no batch 'b'" in answer.err
    assert "--sqlite-path FILE" in answer.err


def test_an_unknown_batch(run: Run, one_batch: str) -> None:
    answer = run("show", "nope")
    assert answer.code == 5
    assert answer.err == "bcs-tui: no batch 'nope' in sqlite; `bcs-tui ls` lists them\n"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("ls", "--backend", "redis"), 2, ARCHIVE_ANSWER),
        (("ls",), 2, ARCHIVE_ANSWER),
        (("ls", "--backend", "sqlite"), 2, "needs --sqlite-path"),
        (("ls", "--sqlite-path", "absent.db"), 2, "does not exist"),
        (("ingest", "absent.jsonl", "--backend", "mock"), 2, "no such file"),
        (("ingest", ".", "--backend", "mock"), 2, "directory"),
        (("demo",), 2, "needs a terminal"),
        (("replay",), 2, "needs a terminal"),
        (("watch", "--backend", "mock"), 2, "nothing to watch"),
        (("migrate",), 2, "no database; set BCS_DATABASE_URL"),
        (("ls", "--redis-url", "redi://:CANARY-7f3a@h"), 2, "BCS_REDIS_URL: not a URL"),
    ],
)
def test_trouble_is_one_line(run: Run, argv: tuple[str, ...], code: int, message: str) -> None:
    answer = run(*argv)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert "CANARY" not in answer.err
    assert answer.err.startswith("bcs-tui: ")
    assert answer.err.splitlines()[-1].startswith("bcs-tui: ")
    assert answer.err.count("\n") <= 2


def test_flags_cannot_talk_the_rule_out_of_testing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "testing")
    refused = run("ls", "--backend", "sqlite", "--sqlite-path", "x.db")
    assert refused.code == 2
    assert "ENVIRONMENT=testing (environment) selects the mock" in refused.err
    hinted = run("ls", "--sqlite-path", "x.db")
    assert hinted.code == 0
    assert "BCS_SQLITE_PATH has no effect" in hinted.err


def test_a_backend_flag_goes_before_the_environment(
    run: Run, one_batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCS_USE_MOCK_REPOSITORY", "true")
    assert run("show", one_batch).code == 5
    assert run("show", one_batch, "--backend", "sqlite").code == 0
    assert ARCHIVE_ANSWER in run("show", one_batch, "--backend", "redis").err


def test_a_database_that_cannot_be_written(run: Run) -> None:
    answer = run("ingest", sample("one_batch"), "--sqlite-path", "/proc/x.db")
    assert answer.code == 69
    assert answer.err.count("\n") == 1
    assert "/proc/x.db" in answer.err


def test_another_programs_file_is_left_alone(run: Run) -> None:
    Path("x.db").write_bytes(b"no database at all" * 100)
    answer = run("ingest", sample("one_batch"), "--sqlite-path", "x.db")
    assert answer.code == 2
    assert "x.db" in answer.err
    assert Path("x.db").read_bytes() == b"no database at all" * 100


def test_not_permitted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "events.jsonl")

    monkeypatch.setattr("engine.feeds.files.os.open", refuse)
    shutil.copy(sample("one_batch"), "events.jsonl")
    answer = run("ingest", "events.jsonl", "--backend", "mock")
    assert answer.code == 4
    assert "events.jsonl" in answer.err


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a bug\nof ours")


def test_a_programming_error_is_told_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcs_tui.commands.ls.print_list", broken)
    monkeypatch.setenv("BCS_USE_MOCK_REPOSITORY", "1")
    answer = run("ls", "--json")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "unexpected RuntimeError" in answer.err


def test_debug_shows_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bcs_tui.commands.ls.print_list", broken)
    assert main(["ls", "--json", "--backend", "mock", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_warnings_go_to_standard_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PAHT", "x.db")
    answer = run("ls", "--json", "--backend", "mock", "--redis-url", "redis://:CANARY-7f3a@h")
    assert answer.document == {"batches": []}
    assert "did you mean BCS_SQLITE_PATH?" in answer.err
    assert "set BCS_REDIS_URL instead" in answer.err
    assert "CANARY" not in answer.err


def test_an_unknown_sample() -> None:
    with pytest.raises(NotFound, match="bad_lines, busy_day, one_batch"):
        sample("nope")


# --- usage ---------------------------------------------------------------------------------

VERBS = [
    "demo", "replay", "watch", "ingest", "ls", "show", "essays", "dead-letters", "plan", "publish",
    "migrate", "info", "completion",
]  # fmt: skip


def test_help_begins_with_examples(run: Run) -> None:
    answer = run("--help")
    assert answer.code == 0
    assert answer.out.index("examples:") < answer.out.index("bcs-tui demo")
    for verb in VERBS:
        assert f"\n    {verb}" in answer.out
        own = run(verb, "--help").out
        assert own.index("examples:") < own.index(f"bcs-tui {verb}", own.index("examples:"))
        assert own.index("examples:") < own.index("--backend", own.index("examples:"))


def test_without_a_verb_the_help_is_shown(run: Run) -> None:
    answer = run()
    assert (answer.code, answer.out) == (2, "")
    assert "examples:" in answer.err


@pytest.mark.parametrize(
    "argv",
    [
        ("nope",),
        ("show",),
        ("--verbose",),
        ("ls", "--verbose"),
        ("show", "b", "c", "--loud"),
        ("ls", "--backend", "oracle"),
        ("essays", "b", "--state", "done"),
        ("ls", "--json", "--jsonl"),
        ("demo", "--rate", "0"),
        ("replay", "--speed", "nan"),
        ("replay", "--at", "101%"),
        ("replay", "--at", "yesterday"),
    ],
)
def test_bad_usage(run: Run, argv: tuple[str, ...]) -> None:
    answer = run(*argv)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("bcs-tui: ")
    verb = f" {argv[0]}" if argv[0] in VERBS else ""
    assert line.endswith(f"; see `bcs-tui{verb} --help`")


def test_bad_usage_does_not_repeat_a_password(run: Run) -> None:
    answer = run("ls", "--redis-ulr", "redis://someone:secret@host/0")
    assert answer.code == 2
    assert "--redis-ulr redis://***@host/0" in answer.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion(run: Run, shell: str) -> None:
    answer = run("completion", shell)
    assert answer.code == 0
    assert all(verb in answer.out for verb in VERBS)


def test_bash_takes_the_completion(run: Run) -> None:
    script = run("completion", "bash").out + "\ncomplete -p bcs-tui\n"
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True)
    assert "bcs-tui" in done.stdout


# --- screens -------------------------------------------------------------------------------


@pytest.fixture
def on_screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, View]]:
    """Run a verb on a screen that waits for something to be seen and leaves."""

    def on_screen(seen: Callable[[View], object], *argv: str) -> tuple[int, str, View]:
        shown: list[tuple[str, View]] = []

        async def look(engine: Engine, title: str) -> int:
            running = asyncio.ensure_future(engine.run())
            async with asyncio.timeout(60):
                async for view in engine.views():
                    if seen(view):
                        shown.append((title, view))
                        break
            running.cancel()
            return 0

        verb = f"bcs_tui.commands.{argv[0]}"
        monkeypatch.setattr(f"{verb}.require_terminal", lambda: None)
        monkeypatch.setattr(f"{verb}.run_on_screen", look)
        code = main(argv)
        return code, *shown[0]

    return on_screen


def test_demo_needs_no_backend(on_screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    code, title, view = on_screen(lambda view: len(view.batches) >= 20, "demo", "--seed", "7")
    assert (code, title) == (0, "demo")
    assert view.health.feed == "simulated fleet 7"
    assert view.health.backend == "mock"
    assert not Path("x.db").exists()


@pytest.mark.parametrize("place", ["50%", "2026-02-03T08:01:45Z", "2026-02-03T08:01:45"])
def test_replay_begins_where_it_is_told_to(on_screen: Any, place: str) -> None:
    total = len(events(sample("one_batch")))
    half = sum(
        event["event_timestamp"] <= "2026-02-03T08:01:45" for event in events(sample("one_batch"))
    )
    there = total // 2 if place == "50%" else half
    argv = ("replay", str(sample("one_batch")), "--paused", "--at", place, "--speed", "2x")
    code, title, view = on_screen(lambda view: view.replay and view.replay.index == there, *argv)
    assert (code, title) == (0, "replay")
    assert view.replay.paused
    assert view.replay.speed == 2.0
    assert 0 < view.health.read == there < total


def test_replay_without_a_file_shows_the_busy_day(on_screen: Any) -> None:
    *_, view = on_screen(lambda view: view.health.read, "replay", "--speed", "max", "--loop")
    assert view.health.feed == "busy_day.jsonl"
    assert view.replay.loop
    assert view.replay.speed is None


def test_watch_shows_a_file_and_leaves_it_alone(on_screen: Any, one_batch: str) -> None:
    before = Path("x.db").read_bytes()
    code, title, view = on_screen(lambda view: view.batches, "watch")
    assert (code, title) == (0, "x.db")
    assert list(view.batches) == [one_batch]
    assert Path("x.db").read_bytes() == before


def test_a_terminal_that_cannot_move_its_cursor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    answer = run("demo")
    assert answer.code == 2
    assert "set TERM" in answer.err


def test_progress_is_drawn_on_a_terminal_and_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["ingest", str(sample("one_batch")), "--json", "--sqlite-path", "x.db"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["batches"] == 1
    assert " events  " in captured.err
    assert captured.err.endswith("\r\x1b[K")


class Telling(ListFeed):
    """A feed in trouble, which counts what it is given back."""

    trouble = "no way"
    gaps = 3
    back = 0

    def give_back(self) -> None:
        self.back += 1


async def test_a_metered_feed_hides_nothing_of_its_own() -> None:
    inner = Telling([])
    feed = progress.Metered(inner)
    feed.give_back()
    await feed.acknowledge()
    assert (feed.name, feed.trouble, feed.gaps, feed.notices) == ("list", "no way", 3, [])
    engine = Engine(MockBatchStateRepository(), feed)
    assert "3 gaps" in progress.line(engine, feed)
    assert (inner.back, inner.acknowledged) == (1, 1)


async def test_progress_knows_how_much_there_is() -> None:
    path = sample("one_batch")
    feed = progress.Metered(JsonlFeed(path), path.stat().st_size)
    async with open_engine(Settings(USE_MOCK_REPOSITORY=True), feed) as engine:
        assert feed.fraction == 0.0
        assert "   0%" in progress.line(engine, feed)
        await engine.run()
        assert feed.fraction == 1.0
        assert f"100%  {len(events(path))} events" in progress.line(engine, feed)
    endless = progress.Metered(JsonlFeed(path))
    assert endless.fraction is None
    await endless.aclose()


# --- processes -----------------------------------------------------------------------------


def launch(
    *argv: str,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = subprocess.PIPE,
    before: Callable[[], None] | None = None,
    **variables: str,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bcs_tui", *argv],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=before,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
    )


@pytest.fixture
def following(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """An ingest that waits for more, once the first events are committed."""
    shutil.copy(sample("one_batch"), "events.jsonl")
    argv = ("ingest", "events.jsonl", "--follow", "--json", "--sqlite-path", "x.db")
    with launch(*argv) as process:
        while process.poll() is None:
            shown = run("ls", "--json", "--sqlite-path", "x.db")
            if shown.code == 0 and json.loads(shown.out)["batches"]:
                break
        yield process
        process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_following_ends_with_a_signal_and_an_account(
    following: subprocess.Popen[bytes], sent: signal.Signals, code: int
) -> None:
    following.send_signal(sent)
    out, err = following.communicate(timeout=60)
    assert following.returncode == code
    account = json.loads(out)
    assert account["applied"] > 0
    assert account["batches"] == 1
    assert err == b""


def test_a_reader_that_left_is_no_failure() -> None:
    with launch("--help") as process:
        assert process.wait(timeout=60) == 0
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody, launch("info", stdout=nobody) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_no_standard_output_at_all(one_batch: str) -> None:
    with launch("ls", stdout=None, before=lambda: os.close(1)) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_an_encoding_that_lacks_characters() -> None:
    with launch(
        "ingest", str(sample("one_batch")), "--backend", "mock", PYTHONIOENCODING="ascii"
    ) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b" \\xb7 applied " in out
