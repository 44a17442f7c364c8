"""Feeds: ordered sources of envelopes, with a position."""
