"""The errors that bcs-tui raises on purpose.

BCSError
├── SettingsError
├── RepositoryError
│   ├── RepositoryUnavailable
│   │   └── NotPermitted
│   ├── RepositoryConflict
│   ├── CorruptDocument
│   └── NotFound
└── FeedError
    ├── FeedUnavailable
    │   └── FeedUnreachable
    └── BadEvent

The message of each is one line for a person: what failed, where, what to do.
"""

from __future__ import annotations


class BCSError(Exception):
    """Base of everything that is expected to go wrong."""


class SettingsError(BCSError):
    """A setting is missing, malformed or contradicts another one."""


class RepositoryError(BCSError):
    """A repository could not do what it was asked to."""


class RepositoryUnavailable(RepositoryError):
    """The repository cannot be reached or written right now; trying again may help."""


class NotPermitted(RepositoryUnavailable):
    """The repository is there, but the account may not do this one thing."""


class RepositoryConflict(RepositoryError):
    """Other writers kept winning; the write was given up after bounded retries."""


class CorruptDocument(RepositoryError):
    """Stored data cannot be read; it is left as it is."""


class NotFound(RepositoryError):
    """Nothing is known about the batch or essay that was asked for."""


class FeedError(BCSError):
    """A feed could not be read."""


class FeedUnavailable(FeedError):
    """The feed's source cannot be opened or has gone away."""


class FeedUnreachable(FeedUnavailable):
    """The server that the feed comes from cannot be reached or does not let us in."""


class BadEvent(FeedError):
    """A single envelope was refused."""
