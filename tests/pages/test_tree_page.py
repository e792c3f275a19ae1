"""The page of a search: what it says of each kind of search and node; no text of a record gets out of its place."""

import pytest

from deeprag_graph.pages import tree_page
from deeprag_graph.pages.markup import escape
from deeprag_graph.transcript import FinalAnswer
from tests.pages.reader import Reader
from tests.pages.records import HOSTILE, bridge, chain, hostile, node, real, record, wide


@pytest.fixture(scope="module")
def page() -> Reader:
    return Reader(tree_page(bridge()))


@pytest.mark.parametrize(
    "said",
    [
        "Into which sea does the river under the Long Bridge flow?",
        "rivers · bridge",
        "Gold answers North Sea · the North Sea",
        "Solved a right path was found, and none costs less.",
        "Cost of the path1 retrieval",
        "Model calls5",
        "Tokens (written)1,000 (100)",
        "2.5 s",
        "bounds.max_steps6",
    ],
)
def test_it_says_what_was_asked_what_came_of_it_and_what_it_took(page: Reader, said: str) -> None:
    assert said in page.text


@pytest.mark.parametrize(
    "said",
    [
        "asks Which river does the Long Bridge cross? p(retrieve) = 0.93 the policy itself: retrieve",
        "parametric the Rhine",
        "retrieve the Ems optimal path",
        "node 4 · 1 retrieval so far · 1 model call",
        "node 5 · 1 retrieval so far · no model call: written ahead",
        "ends right North Sea",
        "ends wrong end 2",
        "ends malformed",
        "Ended here: the policy did not follow the format, and corrections did not help.",
        "Corrections: step 2: it wrote an answer ('well') where a decision was due; dropped",
        "retrieve not tried: the search was over before its turn",
    ],
)
def test_it_says_of_each_node_how_one_gets_there_and_what_comes_next(page: Reader, said: str) -> None:
    assert said in page.text


def test_the_optimal_path_stands_in_words_with_the_policys_own_decisions(page: Reader) -> None:
    assert "Which river does the Long Bridge cross?retrieve the Ems the policy's own decision" in page.text
    assert "Into which sea does the Ems flow?parametric the North Sea the policy itself would retrieve" in page.text


def test_the_nodes_of_the_optimal_path_are_marked_and_open_and_no_others(page: Reader) -> None:
    entries = page.with_class("entry")
    marked = [entry["id"] for entry in entries if "marked" in str(entry["class"])]
    assert len(entries) == 6
    assert marked == ["node-0", "node-4", "node-5"]
    assert sum("open" in details for details in page.all("details")) == 3


def test_entries_tell_their_level(page: Reader) -> None:
    levels = {str(entry["id"]): entry["aria-level"] for entry in page.with_class("entry")}
    assert levels == {"node-0": "1", "node-1": "2", "node-2": "3", "node-3": "3", "node-4": "2", "node-5": "3"}


def test_the_picture_has_a_named_link_for_each_node_and_one_tab_stop(page: Reader) -> None:
    links = [link for link in page.all("a") if "data-parent" in link]
    assert [link["href"] for link in links] == [f"#node-{n}" for n in range(6)]
    assert links[5]["aria-label"] == "Node 5, after parametric, right, on the optimal path"
    assert [link["tabindex"] for link in links] == ["0", *["-1"] * 5]


@pytest.mark.parametrize(
    "found", [bridge(), wide(60), hostile(), chain(40), record([])], ids=lambda found: found["id"][:9]
)
def test_each_link_leads_to_something_on_the_page_and_no_id_is_used_twice(found: dict) -> None:  # type: ignore[type-arg]
    read = Reader(tree_page(found))  # type: ignore[arg-type]
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    hrefs = {str(attributes["href"]) for _, attributes in read.elements if "href" in attributes} - {"data:,"}
    assert {href[1:] for href in hrefs if found["nodes"] or href != "#outline"} <= set(ids)
    assert all("src" not in attributes for _, attributes in read.elements)


def test_a_passage_stands_once_however_often_it_is_cited() -> None:
    found = wide(200)
    assert tree_page(found).count("The mill stands at the river. " * 20) == len(found["passages"])


def test_a_node_at_the_retrieval_bound_says_that_retrieving_was_beyond_it() -> None:
    nodes = [node(0, -1, subquery="What?"), node(1, 0, "parametric", depth=1)]
    assert "retrieve not tried: beyond the retrieval bound" in Reader(tree_page(record(nodes))).text


def test_a_right_path_beside_a_failure_is_not_called_optimal() -> None:
    text = Reader(tree_page(bridge(outcome="failed", stop_reason="failed", error="the server is away"))).text
    assert "optimal" not in text.lower()
    assert "This path is right, but a branch that failed might have held a cheaper one." in text
    assert "Error: the server is away" in text


def test_an_unsolved_search_opens_its_first_levels_and_has_no_path_to_show() -> None:
    found = next(found for found in real(10) if found["outcome"] == "unsolved" and len(found["nodes"]) > 10)
    read = Reader(tree_page(found))
    assert "No right path was found." in read.text
    assert not read.with_class("marked")
    assert sum("open" in details for details in read.all("details")) == 3
    assert "Only the path" not in read.text


def test_a_node_that_failed_shows_the_error() -> None:
    final = FinalAnswer(long="", short="")
    failed = node(0, -1, outcome="failed", stop_reason="policy_failed", error="503 from the server", final=final)
    text = Reader(tree_page(record([failed], outcome="failed", stop_reason="failed", error="503 from the server"))).text
    assert "ends failed" in text
    assert "Ended here: a model call failed" in text


def test_a_retrieval_that_found_nothing_says_so() -> None:
    nodes = [node(0, -1, subquery="What?"), node(1, 0, "retrieve", depth=1, cost=1)]
    assert "No passage was found." in Reader(tree_page(record(nodes))).text


def test_a_search_that_ended_before_its_first_node_has_a_page() -> None:
    text = Reader(tree_page(record([], stop_reason="max_seconds"))).text
    assert "the time bound was reached" in text
    assert "The search ended before its first node." in text


def test_no_depth_is_too_deep() -> None:
    assert len(Reader(tree_page(chain(500))).with_class("entry")) == 501


def test_hostile_text_is_text_wherever_it_comes_from() -> None:
    page = tree_page(hostile())
    read = Reader(page)
    assert len(read.all("script")) == len(read.all("style")) == len(read.all("title")) - 3 == 1
    assert not read.all("img")
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    shown = HOSTILE.translate({ord(c): "\ufffd" for c in "\u202e\u2066\x00\x1b\ud800"})
    assert read.text.count(shown) > 12
    assert page.count(escape(HOSTILE)) > 12
    page.encode()  # no lone surrogate is left


def test_a_megabyte_of_text_does_not_make_a_megabyte_of_page() -> None:
    assert len(tree_page(hostile())) < 150_000


def test_five_hundred_nodes_stay_below_a_megabyte() -> None:
    assert len(tree_page(wide(500))) < 1_000_000


def test_the_same_record_makes_the_same_page() -> None:
    assert tree_page(bridge()) == tree_page(bridge())


def test_real_searches_have_as_many_entries_as_nodes() -> None:
    for found in real(30):
        read = Reader(tree_page(found))
        assert len(read.with_class("entry")) == len(found["nodes"])
        assert len(read.with_class("untried")) == sum(len(n["open"]) for n in found["nodes"])
