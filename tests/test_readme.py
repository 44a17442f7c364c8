"""The README: what it shows runs as it is written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_engine_without_a_screen() -> None:
    [program] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "'spellcheck': {'completed': 5, 'total': 6}" in ended.stdout


def test_every_link_inside_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert links
    assert set(links) <= anchors
    files = re.findall(r"\]\((?!#|https?:)([^)]+)\)", README)
    files += re.findall(r"`((?:engine|bcs_tui|tests|snapshots)/[\w./]+)`", README)
    assert all((ROOT / file).exists() for file in files), files
