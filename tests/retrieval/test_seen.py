"""Ids that were seen: a set, whatever the ids look like, and small where they are consecutive numbers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.retrieval import seen as module
from deeprag_graph.retrieval.seen import SeenIds

ids = st.lists(
    st.integers(0, 60).map(str) | st.sampled_from(["007", "7", "07", "٣", "", "x", "1.0", "9" * 30]), max_size=120
)


@given(ids, ids)
def test_an_id_is_new_exactly_once_also_after_a_save(
    tmp_path_factory: pytest.TempPathFactory, a: list[str], b: list[str]
) -> None:
    file = tmp_path_factory.mktemp("seen") / "ids"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONG_RUN", 5)
        seen, known = SeenIds(), set[str]()
        for part in (a, b):
            for id in part:
                assert seen.add(id) == (id not in known)
                known.add(id)
            seen.save(file)
            seen = SeenIds.load(file)
        assert not any(seen.add(id) for id in known)


def test_consecutive_numbers_take_no_room(tmp_path: Path) -> None:
    seen = SeenIds()
    for start in (1, 5_000_000):
        assert all(seen.add(str(number)) for number in range(start, start + 200_000))
    assert not seen.add("150000")
    seen.save(tmp_path / "ids")
    assert (tmp_path / "ids").stat().st_size == 5 * 8
