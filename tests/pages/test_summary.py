"""The figures of a ledger: counted by hand for a small one, consistent for a real one, in bounded memory for any."""

import json
import tracemalloc
from collections.abc import Iterator

import pytest

from deeprag_graph.explore import ExploreContext
from deeprag_graph.explore.summary import Summary, lines, percent, summarise
from deeprag_graph.ledger import Record
from deeprag_graph.pages import summary_page
from deeprag_graph.state import Usage
from tests.pages.records import SETTINGS, bridge, chain, node, real, record


@pytest.fixture(scope="module")
def small() -> Summary:
    long = Usage(llm_calls=15, retrievals=4, prompt_tokens=2000, completion_tokens=0, seconds=10.0)
    unsolved = record(
        [node(0, -1, corrections=['step 1: it wrote the end ("a\'b") where a decision was due; dropped'])]
    )
    away = bridge(outcome="failed", stop_reason="failed", usage=long)
    return summarise([bridge(), record([], dataset="seas", stop_reason="max_seconds"), unsolved, away])


def test_questions_are_counted_by_outcome_data_set_and_stop_reason(small: Summary) -> None:
    assert small["questions"] == 4
    assert small["outcomes"] == {"solved": 1, "unsolved": 2, "failed": 1}
    assert small["datasets"] == {
        "rivers": {"solved": 1, "unsolved": 0, "failed": 1},
        "seas": {"solved": 0, "unsolved": 1, "failed": 0},
    }
    assert small["stop_reasons"] == {"solved": 1, "max_seconds": 1, "exhausted": 1, "failed": 1}


def test_only_solved_questions_have_a_cost_and_steps(small: Summary) -> None:
    assert small["costs"] == {1: 1}
    assert small["steps"] == {2: 1}
    assert small["decisions"] == {"retrieve": 1, "parametric": 1}
    assert small["own_decisions"] == {"part": 1, "of": 2}


def test_branches_are_counted_where_they_end(small: Summary) -> None:
    assert small["ends"] == {
        0: {"right": 0, "wrong": 1, "malformed": 0, "failed": 0},
        2: {"right": 2, "wrong": 2, "malformed": 2, "failed": 0},
    }
    assert small["end_reasons"] == {0: {"concluded": 1}, 2: {"concluded": 4, "malformed": 2}}


def test_nodes_without_a_call_are_counted(small: Summary) -> None:
    assert (small["nodes"], small["free_nodes"]) == (13, 4)


def test_usage_is_summed_and_averaged(small: Summary) -> None:
    assert small["usage"] == Usage(llm_calls=30, retrievals=10, prompt_tokens=4700, completion_tokens=300, seconds=17.5)
    assert small["per_question"] == {
        "llm_calls": {"mean": 7.5, "median": 5},
        "tokens": {"mean": 1250, "median": 1000},
        "seconds": {"mean": 4.375, "median": 2.5},
    }


def test_corrections_are_the_same_wherever_and_of_whatever_they_are(small: Summary) -> None:
    assert small["corrections"] == {
        "it wrote an answer where a decision was due; dropped": 2,
        "it wrote the end where a decision was due; dropped": 1,
    }


def test_settings_are_those_of_the_ledger_and_all_is_fit_for_json(small: Summary) -> None:
    assert small["settings"] == SETTINGS
    assert json.loads(json.dumps(small))["outcomes"] == small["outcomes"]


def test_the_figures_of_real_searches_agree_with_each_other() -> None:
    found = real(60, ExploreContext(calibrate="path"))
    summary = summarise(iter(found))
    solved = summary["outcomes"]["solved"]
    leaves = sum(n["outcome"] != "inner" for r in found for n in r["nodes"])
    assert sum(summary["outcomes"].values()) == sum(summary["stop_reasons"].values()) == 60
    assert sum(summary["costs"].values()) == sum(summary["steps"].values()) == solved > 20
    assert sum(cost * number for cost, number in summary["costs"].items()) == summary["decisions"]["retrieve"]
    assert sum(sum(row.values()) for row in summary["ends"].values()) == leaves
    assert sum(sum(row.values()) for row in summary["end_reasons"].values()) == leaves


def test_the_text_for_a_terminal_is_short(small: Summary) -> None:
    shown = list(lines(small))
    assert len(shown) <= 12
    assert shown[0] == "1 solved (25 %), 2 unsolved (50 %), 1 failed (25 %) of 4 questions"
    assert "  solved       rivers 1 of 2, seas 0 of 1" in shown
    assert "  cost         1.00 on average (1 × 1)" in shown
    assert "  branches     right 2, wrong 3, malformed 2" in shown
    assert "  nodes        13, 31 % without a model call" in shown
    assert "  in all       30 model calls, 10 retrievals, 5,000 tokens, 17.5 s" in shown


def test_nothing_solved_and_nothing_searched_have_a_text_too() -> None:
    assert list(lines(summarise([]))) == ["No question was searched."]
    shown = list(lines(summarise([record([])])))
    assert shown[0] == "0 solved (0 %), 1 unsolved (100 %), 0 failed (0 %) of 1 questions"
    assert not [line for line in shown if "cost" in line]


@pytest.mark.parametrize(
    ("part", "of", "shown"),
    [(0, 0, "–"), (0, 9, "0 %"), (1, 900, "<1 %"), (1, 3, "33 %"), (899, 900, ">99 %"), (9, 9, "100 %")],
)
def test_a_share_is_nothing_or_all_only_where_it_is(part: int, of: int, shown: str) -> None:
    assert percent(part, of) == shown


def test_one_record_is_held_at_a_time() -> None:
    def heavy() -> Iterator[Record]:
        for n in range(200):
            yield Record(**{**chain(3), "passages": [{"id": "p", "title": "", "text": str(n) + "x" * 500_000}]})

    for count in (summarise, lambda records: summary_page(records, "a")):
        tracemalloc.start()
        count(heavy())  # 100 MB if they were kept
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8_000_000
