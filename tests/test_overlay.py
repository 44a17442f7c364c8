from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.overlay import Overlay

keys = st.integers(0, 200).map(str)
steps = st.lists(st.tuples(st.dictionaries(keys, st.integers(), max_size=90), st.sets(keys)))


@given(steps)
def test_it_is_the_dictionary_it_would_be_and_stays_it(
    told: list[tuple[dict[str, int], set[str]]],
) -> None:
    mapping: Overlay[int] = Overlay.empty()
    plain: dict[str, int] = {}
    pictures = [(mapping, plain)]
    for changed, gone in told:
        mapping = mapping.successor(changed, gone if len(gone) > 3 else ())
        plain = {**plain, **changed}
        for key in gone if len(gone) > 3 else ():
            plain.pop(key, None)
        pictures.append((mapping, plain))
    for mapping, plain in pictures:
        assert mapping == plain
        assert list(mapping) == list(plain)
        assert len(mapping) == len(plain)
        assert [mapping.get(str(number), None) for number in range(201)] == [
            plain.get(str(number)) for number in range(201)
        ]
        assert {str(number) for number in range(201) if str(number) in mapping} == plain.keys()


def test_what_did_not_change_is_shared_until_much_has() -> None:
    first = Overlay.empty().successor({str(number): number for number in range(1000)})
    second = first.successor({"1": -1, "new": 0})
    assert (second["1"], second["2"], second["new"], len(second)) == (-1, 2, 0, 1001)
    assert second._base is first._base
    third = second.successor({str(number): 0 for number in range(200)})
    assert third._base is not first._base
    assert (first["1"], "new" in first) == (1, False)
    assert repr(Overlay.empty().successor({"a": 1})) == "{'a': 1}"
