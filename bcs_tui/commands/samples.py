"""The sample feeds that are shipped: in the wheel beside the code, in a checkout at its top."""

from __future__ import annotations

from pathlib import Path

from engine import NotFound

_PACKAGE = Path(__file__).parent.parent


def sample(name: str) -> Path:
    """Return the path of a sample feed, e.g. `busy_day`.

    Raises:
        NotFound: There is no sample of that name.
    """
    packaged = _PACKAGE / "sample_data"
    folder = packaged if packaged.is_dir() else _PACKAGE.parent / "sample_data"
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.jsonl")))
        raise NotFound(f"no sample {name!r}; there are: {known}")
    return path
