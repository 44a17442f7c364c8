"""PostgreSQL: the schema and its versions, the table of the existing service, least privilege."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest
from envelopes import VECTORS
from servers import administer, new_database, run_in, run_script

from bcs_tui.cli import main
from engine.backends import postgres_schema
from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.postgres_schema import check_schema, migrate
from engine.backends.postgres_session import WRITING, Sessions
from engine.clock import ManualClock
from engine.errors import NotFound, RepositoryError, RepositoryUnavailable, SettingsError
from engine.models import (
    COMPLETED,
    FAILED,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
)
from engine.pipelines import phases_of
from engine.summaries import summarize

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
STORED = json.loads((VECTORS / "stored_postgres.json").read_text())


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
async def url() -> str:
    """A database with the schema and nothing in it."""
    return await new_database()


@pytest.fixture
async def repository(url: str) -> AsyncIterator[PostgresBatchStateRepository]:
    opened = await PostgresBatchStateRepository.open(url, ManualClock(START))
    yield opened
    await opened.aclose()


async def phase_rows(url: str) -> list[dict[str, Any]]:
    sql = "SELECT * FROM phase_completions ORDER BY id"
    return [dict(row) for row in await run_in(url, sql)]


# The schema


async def test_migrate_makes_the_schema_once() -> None:
    url = await new_database(migrated=False)
    first, again = await migrate(url), await migrate(url)
    assert (first.before, first.after) == (0, 1)
    assert (again.before, again.after) == (1, 1)
    assert first.place.startswith("PostgreSQL at 127.0.0.1:")
    opened = await PostgresBatchStateRepository.open(url.replace("://", "+asyncpg://", 1))
    await opened.aclose()


async def test_two_may_migrate_at_once() -> None:
    url = await new_database(migrated=False)
    done = await asyncio.gather(*(migrate(url) for _ in range(4)))
    assert sorted(one.before for one in done) == [0, 1, 1, 1]


async def test_a_migration_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = await new_database(migrated=False)
    scripts = (*postgres_schema.schemas(), "CREATE TABLE bcs.more (); SELECT 1 / 0")
    monkeypatch.setattr(postgres_schema, "schemas", lambda: scripts)
    with pytest.raises(Exception, match="22012"):
        await migrate(url)
    assert await run_in(url, "SELECT 1 FROM pg_namespace WHERE nspname = 'bcs'") == []


async def test_an_upgrade_applies_what_is_missing_and_keeps_the_rest(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await PostgresBatchStateRepository.open(url)
    await opened.record([RegistrationFact("b1", 3, (), START)])
    await opened.aclose()
    scripts = (*postgres_schema.schemas(), "CREATE TABLE bcs.more ()")
    monkeypatch.setattr(postgres_schema, "schemas", lambda: scripts)
    with pytest.raises(SettingsError, match=r"version 1, .* needs 2; run `bcs-tui migrate`"):
        await PostgresBatchStateRepository.open(url)
    assert (await migrate(url))[1:] == (1, 2)
    opened = await PostgresBatchStateRepository.open(url)
    assert (await opened.batch_record("b1")).expected == 3
    await opened.aclose()


async def test_a_missing_and_a_newer_schema_are_told_apart(url: str) -> None:
    bare = await new_database(migrated=False)
    with pytest.raises(SettingsError, match=r"no schema .* version 1 .* `bcs-tui migrate`"):
        await PostgresBatchStateRepository.open(bare)
    await run_in(url, "UPDATE bcs.schema_version SET version = 7")
    for refused in (migrate(url), PostgresBatchStateRepository.open(url)):
        with pytest.raises(SettingsError, match=r"version 7, this bcs-tui knows 1; upgrade"):
            await refused
    assert await run_in(url, "SELECT version FROM bcs.schema_version") == [(7,)]


async def test_a_schema_that_becomes_newer_is_noticed_by_the_next_connection(url: str) -> None:
    opened = await PostgresBatchStateRepository.open(url)
    await run_in(url, "UPDATE bcs.schema_version SET version = 7")
    await run_in(
        url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )  # fmt: skip
    await asyncio.sleep(0.1)
    with pytest.raises(SettingsError, match="version 7"):
        await opened.summaries()
    await opened.aclose()


async def test_a_database_that_is_not_there() -> None:
    url = await new_database(migrated=False)
    with pytest.raises(SettingsError, match="does not exist; create it"):
        await PostgresBatchStateRepository.open(url + "x")


def test_the_verb_says_what_it_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = asyncio.run(new_database(migrated=False))
    monkeypatch.setenv("BCS_DATABASE_URL", url)
    assert main(["migrate"]) == 0
    assert "schema created, version 1" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert "version 1 already, nothing to do" in capsys.readouterr().out
    assert main(["migrate", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"database": f"PostgreSQL at {url.split('@')[1]}", "before": 1, "after": 1}
    asyncio.run(run_in(url, "UPDATE bcs.schema_version SET version = 2"))
    assert main(["migrate"]) == 2
    assert "upgrade bcs-tui" in capsys.readouterr().err


def test_the_verb_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--database-url", "postgresql://u:CANARY-7f3a@127.0.0.1:1/x"]) == 69
    captured = capsys.readouterr()
    assert "PostgreSQL at 127.0.0.1:1/x cannot be reached" in captured.err
    assert "CANARY" not in captured.out + captured.err


# The table of the existing service


async def test_the_table_is_made_as_it_is_deployed(url: str) -> None:
    columns = await run_in(
        url, "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_name = 'phase_completions'"
        " ORDER BY ordinal_position"
    )  # fmt: skip
    assert [dict(row) for row in columns] == STORED["columns"]
    indexes = await run_in(
        url, "SELECT indexdef FROM pg_indexes WHERE tablename = 'phase_completions' ORDER BY 1"
    )  # fmt: skip
    assert [row[0] for row in indexes] == sorted(STORED["indexes"])


async def test_a_table_that_is_there_is_not_altered() -> None:
    url = await new_database(migrated=False)
    await run_in(url, "CREATE TABLE phase_completions (batch_id text, more integer)")
    before = await run_in(url, "SELECT attname FROM pg_attribute WHERE attrelid = "
                          "'phase_completions'::regclass ORDER BY attnum")  # fmt: skip
    await migrate(url)
    after = await run_in(url, "SELECT attname FROM pg_attribute WHERE attrelid = "
                         "'phase_completions'::regclass ORDER BY attnum")  # fmt: skip
    assert before == after


async def store(url: str) -> list[dict[str, Any]]:
    """Store the rows that the existing service left, and return them as they read."""
    for row in STORED["rows"]:
        await run_in(
            url,
            "INSERT INTO phase_completions VALUES ($1, $2, $3, $4, $5, $6)",
            row["id"],
            row["batch_id"],
            row["phase_name"],
            row["completed"],
            datetime.fromisoformat(row["completed_at"]),
            json.dumps(row["phase_metadata"]),
        )
    await run_in(url, "SELECT setval('phase_completions_id_seq', 5)")
    return await phase_rows(url)


async def test_stored_rows_are_read_as_outcomes_and_stay_as_they_are(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    before = await store(url)
    batch_id = STORED["rows"][0]["batch_id"]
    assert [record.batch_id for record in await repository.summaries()] == [
        batch_id, "ops-batch-0001"
    ]  # fmt: skip
    assert [record.batch_id for record in await repository.summaries(after=batch_id)] == [
        "ops-batch-0001"
    ]
    assert len(await repository.summaries(limit=1)) == 1
    assert await repository.get_completed_phases(batch_id) == {"cj_assessment", "ai_feedback"}
    assert await repository.get_completed_phases("ops-batch-0001") == {"student_matching"}
    loaded = await repository.load_batch(batch_id)
    assert (loaded.essay_ids, loaded.outcomes) == ([], {})
    statuses = {
        counts.step: counts.phase_status for counts in summarize(loaded.record, phases_of()).steps
    }
    assert statuses == {
        "spellcheck": "failed",
        "cj_assessment": "completed_successfully",
        "nlp": "failed",
        "ai_feedback": "completed_successfully",
    }
    with pytest.raises(NotFound):
        await repository.batch_record("nobody")
    # What the events say of one phase is known better; nothing else moves.
    moment = datetime.fromisoformat(STORED["rows"][0]["completed_at"])
    late = PhaseFact(batch_id, "spellcheck", "completed_with_failures", "r1", moment)
    await repository.record([late, StepFact(batch_id, "e1", "nlp", COMPLETED, START)])
    record = await repository.batch_record(batch_id)
    [spellcheck] = [
        counts for counts in summarize(record, phases_of()).steps if counts.step == "spellcheck"
    ]
    assert spellcheck.phase_status == "completed_with_failures"
    assert await phase_rows(url) == before


async def test_a_newer_outcome_replaces_the_row_of_its_phase_only(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    before = await store(url)
    batch_id = STORED["rows"][0]["batch_id"]
    moment = datetime.fromisoformat(STORED["rows"][0]["completed_at"]) + timedelta(seconds=1)
    await repository.record(
        [PhaseFact(batch_id, "spellcheck", "completed_successfully", "r", moment)]
    )
    replaced, *others = await phase_rows(url)
    assert others == before[1:]
    assert json.loads(replaced.pop("phase_metadata")) == {
        "recorded_by": "bcs-tui", "source": "event", "phase_status": "completed_successfully"
    }  # fmt: skip
    assert replaced == {
        "id": 1, "batch_id": batch_id, "phase_name": "spellcheck", "completed": True,
        "completed_at": moment,
    }  # fmt: skip
    assert "spellcheck" in await repository.get_completed_phases(batch_id)


async def test_our_outcomes_are_there_for_the_existing_service(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    await repository.record(
        [
            PhaseFact("b1", "nlp", "started", "r1", at(0)),
            PhaseFact("b1", "nlp", "completed_with_failures", "r1", at(5)),
            PhaseFact("b1", "nlp", "completed_successfully", "r2", at(9)),
            PhaseFact("b1", "nlp", "cancelled", "r3", at(7)),
            PhaseFact("b1", "spellcheck", "completed_with_failures", "r1", at(3)),
            PhaseFact("b1", "cj_assessment", "completed_successfully", "r1", None),
            PhaseFact("b" * 300, "nlp", "completed_successfully", "r1", at(1)),
        ]
    )
    rows = {row["phase_name"]: row for row in await phase_rows(url)}
    assert {name: row["completed"] for name, row in rows.items()} == {
        "nlp": True, "spellcheck": False, "cj_assessment": True
    }  # fmt: skip
    assert rows["nlp"]["completed_at"] == at(9)
    # Our own rows are no outcomes of somebody else.
    record = await repository.batch_record("b1")
    assert len(record.milestones) == 6
    # Older, equal, and without a time: none is newer than the row.
    await repository.record(
        [
            PhaseFact("b1", "nlp", "failed_critically", "r4", at(8)),
            PhaseFact("b1", "cj_assessment", "failed_critically", "r4", None),
        ]
    )
    assert {row["phase_name"]: row for row in await phase_rows(url)} == rows


# Sharing


async def test_a_writer_sees_what_another_wrote(url: str) -> None:
    one = await PostgresBatchStateRepository.open(url)
    other = await PostgresBatchStateRepository.open(url)
    fact = StepFact("b1", "e1", "nlp", COMPLETED, START)
    for number in range(6):
        writer = (one, other, other)[number % 3]
        moved = StepFact("b1", f"x{number}", "nlp", COMPLETED, START)
        assert list((await writer.record([fact, moved])).news) == [number == 0, True]
    assert (await one.batch_record("b1")).counts == {"nlp": [7, 0]}
    await one.aclose()
    await other.aclose()


async def test_a_chunk_may_change_the_same_again_and_again(
    repository: PostgresBatchStateRepository,
) -> None:
    whole = MockBatchStateRepository()
    for facts in (entangled(seed) for seed in range(4)):
        recorded, expected = await repository.record(facts), await whole.record(facts)
        assert list(recorded.news) == list(expected.news)
        assert sorted(map(repr, recorded.changes)) == sorted(map(repr, expected.changes))
    assert await whole.summaries() == await repository.summaries()
    for name in ("b1", "b2"):
        assert await whole.essays(name) == await repository.essays(name)


def entangled(seed: int) -> list[Fact]:
    """Facts that change again and again what other facts of the same chunk have made known."""
    chances = random.Random(seed)
    facts: list[Fact] = []
    for number in range(60):
        batch_id, essay_id = chances.choice(["b1", "b2"]), f"e{chances.randrange(4)}"
        moment = at(chances.randrange(30))
        if chances.random() < 0.2:
            facts.append(EssaysFact(batch_id, (essay_id,), moment, f"file{number}"))
        else:
            home = chances.choice([batch_id, batch_id, ""])
            outcome = chances.choice([FAILED, COMPLETED])
            facts.append(StepFact(home, essay_id, "nlp", outcome, moment, f"x{number}", 1))
    return facts


async def test_what_was_rolled_back_is_not_known(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    await repository.record([EssaysFact("b1", ("e1",), START)])
    await run_in(url, "ALTER TABLE bcs.counters ADD CONSTRAINT none CHECK (false) NOT VALID")
    with pytest.raises(RepositoryError, match="23514"):
        await repository.record([StepFact("b1", "e2", "nlp", COMPLETED, START)])
    await run_in(url, "ALTER TABLE bcs.counters DROP CONSTRAINT none")
    # With one transaction of another in between, the versions alone look as if it had been ours.
    async with aclosing(await PostgresBatchStateRepository.open(url)) as other:
        await other.record([EssaysFact("b2", ("e1",), START)])
    recorded = await repository.record([StepFact("b1", "e2", "nlp", COMPLETED, START)])
    assert list(recorded.news) == [True]
    record = await repository.batch_record("b1")
    assert (record.seen, record.counts) == (2, {"nlp": [1, 0]})


async def test_commits_are_durable_whatever_the_server_does_by_default(url: str) -> None:
    await run_in(url, "ALTER DATABASE " + url.rsplit("/", 1)[1] + " SET synchronous_commit = off")
    await run_script(
        url,
        """
        CREATE TABLE noted (setting text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO noted VALUES (current_setting('synchronous_commit')); RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER INSERT ON bcs.batches EXECUTE FUNCTION note();
        """,
    )
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        await repository.record([EssaysFact("b1", ("e1",), START)])
    assert await run_in(url, "SELECT setting FROM noted") == [("on",)]


# Least privilege


_numbers = count(1)


async def account(url: str, *grants: str) -> str:
    """Make an account with a password and grants; return the URL that uses it."""
    name, password = f"account{next(_numbers)}", "CANARY-7f3a"
    await administer(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    for grant in grants:
        await run_in(url, f"GRANT {grant} TO {name}")
    return f"postgresql://{name}:{password}@{url.split('@')[1]}"


OBSERVER = (
    "USAGE ON SCHEMA bcs, public",
    "SELECT ON ALL TABLES IN SCHEMA bcs",
    "SELECT ON public.phase_completions",
)
INGESTER = (
    *OBSERVER,
    "INSERT, UPDATE ON ALL TABLES IN SCHEMA bcs",
    "INSERT, UPDATE ON public.phase_completions",
    "USAGE ON ALL SEQUENCES IN SCHEMA bcs",
    "USAGE ON SEQUENCE public.phase_completions_id_seq",
)


async def test_an_observer_needs_to_read_only(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    await repository.record([StepFact("b1", "e1", "nlp", COMPLETED, START)])
    watching = await account(url, *OBSERVER)
    observer = await PostgresBatchStateRepository.open(watching, read_only=True)
    assert (await observer.load_batch("b1")).essay_ids == ["e1"]
    assert len(await observer.essays("b1")) == len(await observer.summaries()) == 1
    assert await observer.dead_letters() == []
    for refused in (observer.record([]), observer.record_dead_letters([])):
        with pytest.raises(RepositoryUnavailable, match="for reading only"):
            await refused
    await observer.aclose()
    # The server holds an account without grants to it, whatever we ask for.
    writer = await PostgresBatchStateRepository.open(watching)
    with pytest.raises(RepositoryUnavailable, match="does not permit this") as refusal:
        await writer.record([StepFact("b1", "e2", "nlp", COMPLETED, START)])
    assert isinstance(refusal.value.__cause__, PermissionError)
    assert "CANARY" not in str(refusal.value)
    await writer.aclose()


async def test_the_sessions_of_an_observer_are_read_only(url: str) -> None:
    async def write(connection: asyncpg.Connection) -> None:
        await connection.execute("UPDATE bcs.ledger SET version = version + 1")

    sessions = Sessions(url, read_only=True, answer_seconds=5, check=check_schema)
    async with aclosing(sessions):
        with pytest.raises(RepositoryUnavailable, match="is read-only"):
            await sessions.run(WRITING, write)


async def test_an_ingester_needs_no_right_to_delete_or_create(url: str) -> None:
    ingesting = await account(url, *INGESTER)
    writer = await PostgresBatchStateRepository.open(ingesting)
    await writer.record(
        [
            StepFact("b1", "e1", "nlp", COMPLETED, START),
            StepFact("", "e9", "nlp", COMPLETED, START),
            PhaseFact("b1", "nlp", "completed_successfully", "r1", START),
        ]
    )
    assert (await writer.batch_record("b1")).counts == {"nlp": [1, 0]}
    with pytest.raises(RepositoryUnavailable, match="does not permit this"):
        await migrate(await account(await new_database(migrated=False)))
    await writer.aclose()


async def test_a_wrong_password_is_refused_and_never_shown(url: str) -> None:
    watching = await account(url, *OBSERVER)
    wrong = watching.replace("CANARY-7f3a", "CANARY-wrong")
    with pytest.raises(RepositoryUnavailable, match="refuses the account") as refused:
        await PostgresBatchStateRepository.open(wrong)
    assert isinstance(refused.value.__cause__, PermissionError)
    assert "CANARY" not in f"{refused.value!r} {refused.value.__cause__!r}"


async def test_no_message_quotes_a_row(url: str, repository: PostgresBatchStateRepository) -> None:
    secret = "CANARY-7f3a"
    await repository.record([PhaseFact("b1", secret, "started", "r", START)])
    await run_in(url, "ALTER TABLE bcs.milestones ADD CONSTRAINT one_phase UNIQUE (phase)")
    with pytest.raises(asyncpg.UniqueViolationError, match=secret):
        await run_in(url, "INSERT INTO bcs.milestones VALUES ('b2', $1, '', '', '')", secret)
    with pytest.raises(RepositoryError, match="23505, one_phase") as told:
        await repository.record([PhaseFact("b2", secret, "started", "r", START)])
    assert secret not in f"{told.value!r} {told.value.__cause__!r}"
    assert told.value.__suppress_context__
