"""Notifications of the deployed services (`ws:*` channels) as hints of what changed.

They are no record: they come at most once, say the same phase end twice in either order, and
leave out most progress. All that is taken from one is which batch is worth reading again.
"""

from __future__ import annotations

import msgspec


class _Data(msgspec.Struct):
    batch_id: str | None = None


class _Notification(msgspec.Struct):
    event: str
    data: _Data


_decode = msgspec.json.Decoder(_Notification).decode


def hint(message: bytes) -> str | None:
    """Return the id of the batch that a notification speaks of; `None` if it names none."""
    try:
        return _decode(message).data.batch_id or None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
