"""The filter language: words that must match, `field:value`, and `!` in front to negate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Field = Callable[[str], bool]
"""Tells whether a field of some item matches a value (in lower case)."""


class Term(NamedTuple):
    """One word of a filter; `field` is empty for plain text."""

    field: str
    values: tuple[str, ...]
    negated: bool


class Filter(NamedTuple):
    """All terms of a filter; every one of them has to match."""

    text: str
    terms: tuple[Term, ...]

    def matches(self, text: str, fields: Mapping[str, Field]) -> bool:
        """Tell whether an item is let through.

        Args:
            text: What plain words are looked for in, in lower case.
            fields: How each field is compared.
        """
        for term in self.terms:
            test = fields.get(term.field) if term.field else text.__contains__
            if test is None:
                return False
            if any(map(test, term.values)) is term.negated:
                return False
        return True


def parse_filter(text: str, known: frozenset[str]) -> Filter:
    """Read a filter; a word with a colon whose field is not known is plain text."""
    terms = []
    for word in text.lower().split():
        negated = word[0] in "!-" and len(word) > 1
        word = word[1:] if negated else word
        field, colon, values = word.partition(":")
        if colon and field in known and values:
            terms.append(Term(field, tuple(filter(None, values.split(","))), negated))
        else:
            terms.append(Term("", (word,), negated))
    return Filter(text.strip(), tuple(terms))
