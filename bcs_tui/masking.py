"""What is said and logged, without anything that could betray a secret."""

from __future__ import annotations

import logging
import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)")


def without_credentials(text: str) -> str:
    """Return a text without the credentials of URLs in it."""
    return _CREDENTIALS.sub("***", text)


class Masking(logging.Formatter):
    """Formats records and hides the credentials of URLs in them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return without_credentials(super().format(record))
