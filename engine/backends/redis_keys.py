"""The keys of the Redis backend: those that the services use, unchanged, and ours beside them.

On a cluster the batch id is a hash tag, so that all keys of a batch live on one node and one
script can change them together.
"""

from __future__ import annotations

from typing import Final

import msgspec

BATCHES: Final = "bcs:tui:batches"
"""Every batch that we have written: a sorted set, all scores 0, so that it pages by name."""

DEAD_LETTERS: Final = "bcs:tui:{dead_letters}"
"""Dead letters in the order of their arrival; `:bodies` and `:count` stand beside it."""

ANY_ESSAY: Final = "bcs:essay_state:*"
"""Matches the document of every essay, also of those that only other services know."""

ANY_OF_SERVICES: Final = "bcs:[be]*"
"""Matches documents and hashes of phases, and little else: one look is enough for both."""

_ESSAY_PREFIX: Final = "bcs:essay_state:"
_PHASES_PREFIX: Final = "bcs:batch:"
_PHASES_SUFFIX: Final = ":phases"


class BatchKeys(msgspec.Struct, frozen=True):
    """The keys of one batch, in the order in which scripts take them."""

    summary: str
    index: str
    batch: str
    essays: str
    uploads: str
    phases: str
    essay_prefix: str

    @property
    def fixed(self) -> tuple[str, ...]:
        """All but those of the essays."""
        return self.summary, self.index, self.batch, self.essays, self.uploads, self.phases


class Keys:
    """Names of keys, with the batch id as it is or, on a cluster, as a hash tag."""

    def __init__(self, hash_tags: bool) -> None:
        self.hash_tags = hash_tags

    def of(self, batch_id: str) -> BatchKeys:
        """Return the keys of a batch."""
        name = f"{{{batch_id}}}" if self.hash_tags else batch_id
        return BatchKeys(
            f"bcs:batch_summary:{name}",
            f"bcs:batch_index:{name}",
            f"bcs:tui:batch:{name}",
            f"bcs:tui:essays:{name}",
            f"bcs:tui:uploads:{name}",
            f"bcs:batch:{name}:phases",
            f"{_ESSAY_PREFIX}{name}:",
        )

    def essay_of(self, key: str) -> tuple[str, str]:
        """Return batch and essay of a document's key; the essay is empty if it is none.

        Ids stand in keys as they are; where they hold a colon, the last one counts.
        """
        batch_id, _, essay_id = key.removeprefix(_ESSAY_PREFIX).rpartition(":")
        return self._bare(batch_id), essay_id

    def batch_of_phases(self, key: str) -> str:
        """Return the batch of a key of phases."""
        return self._bare(key.removeprefix(_PHASES_PREFIX).removesuffix(_PHASES_SUFFIX))

    def named_by(self, key: str) -> tuple[str, str]:
        """Return batch and essay that a key of `ANY_OF_SERVICES` names; empty where it does not."""
        if key.startswith(_ESSAY_PREFIX):
            batch_id, essay_id = self.essay_of(key)
            return (batch_id, essay_id) if batch_id and essay_id else ("", "")
        if key.startswith(_PHASES_PREFIX) and key.endswith(_PHASES_SUFFIX):
            return self.batch_of_phases(key), ""
        return "", ""

    def _bare(self, name: str) -> str:
        return name[1:-1] if self.hash_tags else name


def homes_key(essay_id: str) -> str:
    """Return the key of the set of batches that know an essay."""
    return f"bcs:tui:homes:{essay_id}"


def homeless_key(essay_id: str) -> str:
    """Return the key of the results of an essay that name no batch."""
    return f"bcs:tui:homeless:{essay_id}"
