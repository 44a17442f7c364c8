"""Who may import whom, as a reader of the design was told."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import engine

ROOT = Path(__file__).parent.parent


class Import(NamedTuple):
    module: str
    name: str
    line: int
    lazy: bool
    typing_only: bool


def modules(package: str) -> list[str]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def imports(module: str) -> list[Import]:
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8"))
    return list(_imports(tree, lazy=False, typing_only=False))


def _imports(node: ast.AST, *, lazy: bool, typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, "", node.lineno, lazy, typing_only)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import in line {node.lineno}"
        for alias in node.names:
            yield Import(node.module or "", alias.name, node.lineno, lazy, typing_only)
    lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    guarded = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, lazy=lazy, typing_only=typing_only or guarded)


def top(module: str) -> str:
    return module.partition(".")[0]


ENGINE = modules("engine")
TUI = modules("bcs_tui")
WIDGETS = [module for module in TUI if module.startswith("bcs_tui.widgets.")]


def test_the_packages_are_there() -> None:
    assert "engine.models" in ENGINE
    assert "bcs_tui.cli" in TUI


@pytest.mark.parametrize("module", ENGINE)
def test_the_engine_knows_no_screen(module: str) -> None:
    seen = [one for one in imports(module) if top(one.module) in ("bcs_tui", "textual", "rich")]
    assert seen == []


@pytest.mark.parametrize("module", TUI)
def test_the_screen_knows_only_the_engines_public_names(module: str) -> None:
    used = [one for one in imports(module) if top(one.module) == "engine"]
    assert [one for one in used if one.module != "engine" or one.name not in engine.__all__] == []


# Layers of the engine from the bottom up: a module imports only from layers below its own.
LAYERS = (
    {
        "engine.errors",
        "engine.clock",
        "engine.bounds",
        "engine.auditing",
        "engine.overlay",
        "engine.pacing",
    },
    {"engine.places", "engine.servers", "engine.transport", "engine.hints", "engine.together"},
    {"engine.redis_access"},
    {"engine.settings", "engine.models", "engine.feeds.port", "engine.redis_subscription"},
    {"engine.standing"},
    {"engine.summaries"},
    {"engine.documents", "engine.pipelines", "engine.shapes"},
    {"engine.essay_results"},
    {"engine.payloads"},
    {"engine.events", "engine.repository"},
    {"engine.view", "engine.merge", "engine.retelling", "engine.decoding"},
    {"engine.projection", "engine.account", "engine.observing", "engine.decode_file"}
    | {"engine.failures"},
    {"engine.timeline", "engine.ahead", "engine.tally", "engine.recorder", "engine.decoder"},
    {"engine.intake"},
    {"engine.engine"},
    {"engine.opening"},
    {"engine.__init__"},
)
LAYER = {module: index for index, layer in enumerate(LAYERS) for module in layer}

DRIVERS = {"aiosqlite", "sqlite3", "redis", "asyncpg"}


def of_engine(module: str) -> list[Import]:
    return [one for one in imports(module) if top(one.module) == "engine"]


@pytest.mark.parametrize("module", [module for module in ENGINE if module in LAYER])
def test_layers(module: str) -> None:
    upward = [
        one
        for one in of_engine(module)
        if one.module in LAYER and LAYER[one.module] >= LAYER[module]
    ]
    assert upward == []


def test_every_module_of_the_engine_has_its_layer() -> None:
    inside = ("engine.backends.", "engine.feeds.")
    placed = [module for module in ENGINE if not module.startswith(inside)]
    assert sorted(set(placed) - LAYER.keys()) == []


@pytest.mark.parametrize(
    "module", [module for module in ENGINE if module.startswith("engine.backends.")]
)
def test_a_backend_knows_its_port_and_no_sibling(module: str) -> None:
    family: tuple[str, ...] = (module.split("_")[0],)
    if family == ("engine.backends.archived",):  # the one that is made of others
        parts = ("redis", "postgres", "mock")
        family = (
            *family,
            "engine.retelling",
            "engine.together",
            *(f"engine.backends.{part}" for part in parts),
        )
    allowed = {
        f"engine.{name}"
        for name in (
            "repository",
            "merge",
            "models",
            "errors",
            "clock",
            "auditing",
            "hints",
            "redis_access",
            "redis_subscription",
            "transport",
        )
    }
    seen = [
        one
        for one in of_engine(module)
        if one.module not in allowed and not one.module.startswith(family)
    ]
    assert seen == []


@pytest.mark.parametrize(
    "module", [module for module in ENGINE if module.startswith("engine.feeds.")]
)
def test_a_feed_knows_no_repository_and_no_backend(module: str) -> None:
    upper = {"engine.repository", "engine.projection", "engine.engine", "engine.opening"}
    seen = [
        one
        for one in of_engine(module)
        if one.module in upper or one.module.startswith("engine.backends")
    ]
    assert seen == []


def test_drivers_are_known_to_their_users_only() -> None:
    inside = ("engine.backends.", "engine.feeds.redis_", "engine.redis_")
    outside = [module for module in ENGINE + TUI if not module.startswith(inside)]
    users = [module for module in outside if DRIVERS & {top(one.module) for one in imports(module)}]
    assert users == []


def test_backends_are_imported_in_the_branch_that_selects_them() -> None:
    outside = [module for module in ENGINE if not module.startswith("engine.backends.")]
    eager = {
        (module, one.module)
        for module in outside
        for one in imports(module)
        if one.module.startswith("engine.backends.") and not (one.lazy or one.typing_only)
    }
    # The timeline restores checkpoints, which only the repository in memory has.
    assert eager == {("engine.timeline", "engine.backends.mock")}


@pytest.mark.parametrize("module", WIDGETS)
def test_widgets_know_no_screen(module: str) -> None:
    seen = [one for one in imports(module) if one.module.startswith("bcs_tui.screens")]
    assert seen == []


def test_only_the_way_onto_the_screen_imports_the_app() -> None:
    seen = [
        (module, one.lazy)
        for module in TUI
        for one in imports(module)
        if one.module == "bcs_tui.app" and not one.typing_only
    ]
    assert seen == [("bcs_tui.commands.dashboard", True)]


def test_every_public_name_is_what_it_says() -> None:
    inside = {module.removeprefix("engine.").partition(".")[0] for module in ENGINE}
    assert sorted(inside & set(engine.__all__)) == [], "a module would hide the name"
    for name in engine.__all__:
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        engine.no_such_name  # noqa: B018 # reading the attribute is the test


def loaded_after(code: str, directory: Path) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after running code."""
    report = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}\n{report}"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_engine_brings_no_screen_and_no_driver(tmp_path: Path) -> None:
    everything = "import engine\nfor name in engine.__all__: getattr(engine, name)"
    loaded = loaded_after(everything, tmp_path)
    assert "msgspec" in loaded
    assert loaded & ({"textual", "rich", "bcs_tui"} | DRIVERS) == set()


def test_headless_commands_bring_no_screen(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    source = tmp_path / "events.jsonl"
    source.write_text("")
    code = "\n".join(
        f"assert main({argv!r}) == 0"
        for argv in (
            ["ingest", str(source), "--sqlite-path", str(database)],
            ["ls", "--sqlite-path", str(database)],
        )
    )
    loaded = loaded_after(f"from bcs_tui.cli import main\n{code}", tmp_path)
    assert "aiosqlite" in loaded
    assert loaded & {"textual", "redis", "asyncpg"} == set()
