"""A search in a terminal: drawn with lines, marked with stars, wrapped to the width, free of control characters."""

import pytest

from deeprag_graph.pages import text_tree
from tests.pages.records import bridge, chain, hostile, node, real, record

BRIDGE = """\
Into which sea does the river under the Long Bridge flow?
Gold: North Sea · the North Sea
Solved, 1 retrieval on the path: a right path was found, and none costs less.
6 nodes: 2 retrievals, 5 model calls, 1,000 tokens (100 written), 2.5 s
* marks the optimal path

* start
│  asks Which river does the Long Bridge cross?
│  p(retrieve) = 0.93, the policy itself: retrieve, 1 model call
├─ parametric → the Rhine
│  │  asks Where does the Rhine end?
│  │  the policy itself: parametric, 1 model call
│  ├─ parametric → answer 2
│  │     ends wrong: end 2 (no model call: written ahead)
│  └─ retrieve → answer 3
│        ! step 2: it wrote an answer ('well') where a decision was due; dropped
│        ends malformed: no answer (1 model call)
│        the policy did not follow the format, and corrections did not help
└─ * retrieve → the Ems
   │  [1] Long Bridge
   │  [2] A bridge without a title leads over the Ems as well.
   │  asks Into which sea does the Ems flow?
   │  p(retrieve) = 0.41, the policy itself: retrieve, 1 model call
   ├─ * parametric → the North Sea
   │     ends right: North Sea (no model call: written ahead)
   └─ retrieve: not tried: the search was over before its turn
"""


def test_the_tree_is_drawn_with_the_optimal_path_marked() -> None:
    assert "\n".join(text_tree(bridge(), 100)) + "\n" == BRIDGE


@pytest.mark.parametrize("width", [40, 64, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for found in (bridge(), *real(10)):
        assert max(map(len, text_tree(found, width))) <= width


def test_text_keeps_some_room_where_the_branch_is_deeper_than_the_terminal_is_wide() -> None:
    assert max(map(len, text_tree(chain(60), 40))) <= 3 * 61 + 24


def test_all_lines_of_a_wrapped_text_stay_within_their_branch() -> None:
    drawn = list(text_tree(bridge(), 40))
    asks = next(n for n, line in enumerate(drawn) if "asks Where" in line)
    assert drawn[asks + 1].startswith("│  │  ")


def test_control_characters_and_long_texts_do_not_reach_the_terminal() -> None:
    drawn = "\n".join(text_tree(hostile(), 80))
    assert not [character for character in drawn if character != "\n" and not character.isprintable()]
    assert len(drawn) < 10_000


def test_an_error_is_told_where_it_happened() -> None:
    failed = node(0, -1, outcome="failed", stop_reason="policy_failed", error="503 from the server")
    drawn = list(text_tree(record([failed], outcome="failed", stop_reason="failed", error="503 from the server"), 100))
    assert "Error: 503 from the server" in drawn
    assert drawn[-1].strip() == "a model call failed; `error` says why: 503 from the server"


def test_a_search_that_ended_before_its_first_node_is_told_in_words() -> None:
    drawn = list(text_tree(record([], stop_reason="max_seconds"), 80))
    assert "Unsolved: the time bound was reached." in drawn
    assert "0 nodes: 2 retrievals, 5 model calls, 1,000 tokens (100 written), 2.5 s" in drawn
