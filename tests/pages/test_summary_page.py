"""The page of a ledger: the figures, charts that are tables, and the questions, up to as many as one can look at."""

import pytest

from deeprag_graph.ledger import Record
from deeprag_graph.pages import summary_page
from deeprag_graph.pages.summary_page import LISTED
from tests.pages.reader import Reader
from tests.pages.records import HOSTILE, bridge, chain, hostile, real, record


@pytest.fixture(scope="module")
def page() -> Reader:
    records = [bridge(), chain(3), record([], id="none", dataset="seas", stop_reason="max_seconds")]
    return Reader(summary_page(records, "trees.jsonl"))


@pytest.mark.parametrize(
    "said",
    [
        "trees.jsonl",
        "Questions3",
        "Solved2 (67 %)",
        "the time bound was reached133 %",
        "A solved question costs 2.00 retrievals and takes 2.50 steps on average.",
        "80 % of the decisions on optimal paths are to retrieve.",
        "The policy had written a decision of its own at 2 of them: 1 (50 %) are those of the optimal path.",
        "10 nodes, 20 % without a model call.",
        "model calls5.05.0",
        "it wrote an answer where a decision was due; dropped1100 %",
        "bounds.max_retrievals6",
    ],
)
def test_it_says_the_figures(page: Reader, said: str) -> None:
    assert said in page.text


def test_data_sets_are_compared_where_there_are_several(page: Reader) -> None:
    assert "(all)210rivers100seas010" in page.text
    assert "rivers100" not in Reader(summary_page([bridge()], "a")).text


def test_questions_are_listed_with_id_outcome_cost_calls_and_steps(page: Reader) -> None:
    assert "flow?bridgesolved152" in page.text
    assert "flow?noneunsolved–5–" in page.text


def test_each_chart_has_a_caption_and_row_heads_beside_its_bars(page: Reader) -> None:
    assert len(page.all("caption")) == len(page.all("table")) > 7
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))


def test_only_the_first_questions_are_listed_but_all_are_counted() -> None:
    one = bridge()
    read = Reader(summary_page((one for _ in range(LISTED + 5)), "many.jsonl"))
    assert "The first 2,000 of 2,005 questions." in read.text
    assert "Questions2,005" in read.text
    assert len(read.with_class("id")) == LISTED


def test_a_ledger_without_a_solved_question_has_a_page() -> None:
    assert "No question was solved." in Reader(summary_page([record([])], "a")).text


def test_hostile_text_is_text() -> None:
    read = Reader(summary_page([hostile(), bridge()], HOSTILE))
    assert len(read.all("script")) == len(read.all("style")) == 1
    assert not read.all("img")
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert read.text.count("window.hit") > 8


def test_real_searches_have_a_page() -> None:
    found: list[Record] = real(40)
    assert len(Reader(summary_page(iter(found), "a")).with_class("id")) == 40
