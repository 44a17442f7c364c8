"""`python -m bcs_tui` and the console script."""

from __future__ import annotations

import gc
import sys
from typing import Final

COLLECT_AFTER: Final = (50_000, 20, 100)
"""Objects made here are either short-lived or stay: looking for cycles among hundreds of
thousands of them every few frames finds nothing and costs a twentieth of a core."""


def main() -> int:
    """Run the command line and return its exit code."""
    gc.set_threshold(*COLLECT_AFTER)  # before the imports, which make a great many that stay
    from bcs_tui.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
