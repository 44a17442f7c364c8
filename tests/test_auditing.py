"""The audit: the essays are right, and whoever says otherwise is named."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pages import running, text
from stills import drawn, replayed, until

from bcs_tui.cli import main
from bcs_tui.format import Glyph
from bcs_tui.screens.audit import audit_lines
from engine.auditing import ESSAYS, Claim, Disagreement, Evidence, audit, audit_lasting
from engine.backends.mock import MockBatchStateRepository
from engine.errors import NotFound
from engine.models import COMPLETED, FAILED, EssayState, RegistrationFact, StepFact
from engine.repository import BatchStateRepository

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def page_of(evidence: Evidence) -> list[str]:
    lines = audit_lines(audit("b", evidence), "", Glyph(), 80)
    return ["".join(piece for piece, _ in line) for line in lines]


def test_a_source_that_differs_is_named_number_by_number() -> None:
    claims = [
        Claim(ESSAYS, "nlp", 22, 1, 24),
        Claim("counters", "nlp", 22, 1, 24),
        Claim("stored summary", "nlp", 23, None, 23),
    ]
    found = audit("b", Evidence(claims))
    assert list(found.disagreements) == [
        Disagreement("nlp", "completed", "stored summary", 23, 22),
        Disagreement("nlp", "total", "stored summary", 23, 24),
    ]


def test_a_step_that_no_essay_knows_is_wrong_where_it_is_counted() -> None:
    found = audit("b", Evidence([Claim(ESSAYS, "nlp", 0, 0, 5), Claim("counters", "cj", 1, 0, 5)]))
    assert list(found.disagreements) == [Disagreement("cj", "completed", "counters", 1, 0)]
    assert audit("b", Evidence([Claim("counters", "cj", 0, 0, 5)])).disagreements == []


def test_what_nobody_says_is_no_disagreement() -> None:
    assert audit("b", Evidence([])).disagreements == []
    assert (
        audit("b", Evidence([Claim(ESSAYS, "nlp", 1, 0, 1), Claim("x", "nlp", 1, None, None)]))[2]
        == []
    )


async def test_no_backend_contradicts_itself(repository: BatchStateRepository) -> None:
    pairs = [("e1", COMPLETED), ("e2", FAILED), ("e2", COMPLETED), ("batch_b1_aggregate", 2)]
    await repository.record(
        [
            RegistrationFact("b1", 4, ("e1", "e2", "e3"), START),
            *(StepFact("b1", name, "nlp", outcome, START, detail=1) for name, outcome in pairs),
        ]
    )
    evidence = await repository.evidence("b1")
    claims = evidence.claims
    assert claims[0] == Claim(ESSAYS, "nlp", 2, 0, 4)
    assert any(claim.source.endswith("counters") for claim in claims)
    assert evidence.unreadable == {}
    assert audit("b1", evidence).disagreements == []
    with pytest.raises(NotFound):
        await repository.evidence("nobody")


def test_the_command_finds_a_wrong_counter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = Path(__file__).parent / "vectors" / "comprehensive_batch.jsonl"
    database = str(tmp_path / "x.db")
    batch = "9a89b6b0-a247-4158-a83b-ba51bea27dc0"
    assert main(["ingest", str(vector), "--sqlite-path", database]) == 0
    show = ["show", batch, "--audit", "--strict", "--sqlite-path", database]
    assert main(show) == 0
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE counters SET completed = completed + 1, failed = 0")
    connection.close()
    capsys.readouterr()
    assert main([*show, "--json"]) == 7
    found = json.loads(capsys.readouterr().out)
    assert (found["batch_id"], found["agrees"]) == (batch, False)
    assert {
        "step": "nlp", "member": "failed", "source": "counters", "says": 0, "essays": 1
    } in found["disagreements"]  # fmt: skip
    assert main(show) == 7
    assert "nlp: counters says 23 completed, the essays 22" in capsys.readouterr().out
    assert main([one for one in show if one != "--strict"]) == 0


async def test_the_page_shows_it() -> None:
    async with running(await replayed("one_batch", 0.75), (120, 40)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        await pilot.press("a")
        await until(lambda: "every source agrees" in text(app))
        assert "counters" in text(app)
        await pilot.press("escape")
        assert "every source agrees" not in text(app)


def test_a_contradiction_is_marked_in_its_number() -> None:
    claims = [Claim(ESSAYS, "nlp", 22, 1, 24), Claim("counters", "nlp", 23, 1, 24)]
    shown = page_of(Evidence(claims))
    assert "1 number differs from the essays" in shown[2]
    assert "23 ≠" in shown[-1]
    assert "nothing is known" in page_of(Evidence([]))[-1]


def test_essays_that_nobody_can_count_are_listed_with_the_reason() -> None:
    claims = [Claim(ESSAYS, "nlp", 22, 0, 24)]
    shown = page_of(Evidence(claims, {"e1": "not UTF-8", "e2": "its key holds another type"}))
    assert "every source agrees" in shown[2]
    listed = [line.strip() for line in shown[-5:]]
    assert listed == [
        "2 essays cannot be read, or not wholly",
        "? e1", "not UTF-8",
        "? e2", "its key holds another type",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [59, 75, 83])
def test_no_number_of_an_audit_is_cut(width: int) -> None:
    step = "a_step_with_quite_a_long_name"
    claims = [Claim(ESSAYS, step, 22, 0, 24), Claim("PostgreSQL stored summary", step, 22, 0, 25)]
    drawn = audit_lines(audit("b", Evidence(claims)), "somebody else wrote it", Glyph(), width)
    shown = ["".join(piece for piece, _ in line) for line in drawn]
    assert max(map(len, shown)) <= width + 1
    assert shown[3] == "   somebody else wrote it"
    assert sum(step in line for line in shown) == 1
    assert shown[-1].split() == ["PostgreSQL", "stored", "summary", "22", "0", "25", "≠"]


async def test_the_essays_are_read_once() -> None:
    class Read(MockBatchStateRepository):
        asked = 0

        async def essays(self, *parts: Any, **names: Any) -> list[EssayState]:
            Read.asked += 1
            found = await super().essays(*parts, **names)
            return [msgspec.structs.replace(essay, trouble="torn") for essay in found]

    repository = Read()
    await repository.record([RegistrationFact("b1", 2, ("e1", "e2"), START)])
    found = await audit_lasting("b1", repository.evidence)
    assert (found.unreadable, found.disagreements) == ({"e1": "torn", "e2": "torn"}, [])
    assert Read.asked == 2  # the page, and that there is no other
