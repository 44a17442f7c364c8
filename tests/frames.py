"""Golden frames: a screen as SVG, the same on every machine, kept flat in `snapshots/`."""

from __future__ import annotations

import re
from pathlib import Path

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation
from syrupy.types import SnapshotIndex
from textual.app import App

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"


class FrameExtension(SingleFileSnapshotExtension):
    """One SVG for each name; `snapshot(name=...)` is the whole file name."""

    file_extension = "svg"
    _write_mode = WriteMode.TEXT

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        return str(SNAPSHOTS)

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: SnapshotIndex = 0) -> str:
        return str(index)

    @classmethod
    def matches_test_location(
        cls, *, test_location: PyTestLocation, snapshot_location: str
    ) -> bool:
        """A frame belongs to the test that has its name as its parameter."""
        return f"[{Path(snapshot_location).stem}]" in test_location.snapshot_name


def frame(app: App[None]) -> str:
    """Return the screen as SVG, without what differs between runs or asks a network."""
    svg = app.export_screenshot(title="bcs-tui", simplify=True)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
