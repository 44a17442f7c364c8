"""`python -m bcs_tui` and the console script."""

from __future__ import annotations

import sys

from bcs_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
