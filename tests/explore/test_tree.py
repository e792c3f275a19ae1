"""The tree holds what inference gives: each path of a search, run straight through, ends the same way."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from benchmarks.worlds import World, Worlds
from deeprag_graph.effects import Parts, drive
from deeprag_graph.explore import ExploreContext, Node, Tree, children, explore, path, trajectory
from deeprag_graph.explore.tree import within
from deeprag_graph.graph import build_graph
from deeprag_graph.nodes import NODES
from deeprag_graph.policies.base import Completion, Policy, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.state import Context, Output, State
from deeprag_graph.transcript import ANSWER, FOLLOW_UP, RETRIEVE, Decision, Step, parse, render, segments
from deeprag_graph.turn import Turn
from tests.explore.forks import GOLD, QUESTION, End, Fork, Guide, trees
from tests.explore.helpers import Found, Scribe, context_of, decisions, scribes, worlds
from tests.fake_server import Shelf
from tests.strategies import bare, hostile

ACTIONS: tuple[Decision, Decision] = ("parametric", "retrieve")


def ends(tree: Tree) -> list[Node]:
    return [node for node in tree["nodes"] if node["outcome"] != "inner"]


# --- inference by threshold: the policy is made to have the probabilities that lead down a path ---


class Led(ScriptedPolicy):
    """Is sure at each step of the decision that leads down a path; writes what it writes."""

    def __init__(self, reply: Callable[[Prompt], str | Completion], path: Sequence[Decision]) -> None:
        super().__init__(reply)
        self.path = path

    def complete(self, prompt: Prompt) -> Completion:
        completion = super().complete(prompt)
        chances: dict[int, float] = {}
        step = len(prompt.trajectory["steps"])
        due = prompt.opening == "" and step > 0 and prompt.trajectory["steps"][-1]["decision"] is None
        for at, line in _lines(completion.text):
            if line.startswith(FOLLOW_UP):
                step, due = step + 1, True
            elif due and line.startswith((RETRIEVE[:6], ANSWER)):  # the rest may be a stop string's
                chances[at] = float(self.path[step - 1] == "retrieve") if step <= len(self.path) else 0.5
                due = False
        return Completion(completion.text, p_retrieve=chances)


def _lines(text: str) -> list[tuple[int, str]]:
    at, found = 0, []
    for line in text.splitlines(keepends=True):
        found.append((at, line))
        at += len(line)
    return found


def check_against_thresholds(
    tree: Tree, reply: Callable[[Prompt], str | Completion], retriever: BaseRetriever, context: ExploreContext
) -> None:
    for node in ends(tree):
        graph = build_graph(Led(reply, decisions(tree, node)), retriever)
        bounds = {"max_steps": context.max_steps, "max_llm_calls": 1_000}
        output = cast(Output, graph.invoke({"question": tree["question"]}, context=Context(decision=0.5, **bounds)))
        found = trajectory(tree, node["id"])
        assert _undecided(output["steps"]) == _undecided(found["steps"])
        assert (output["answer"], output["answer_long"]) == (node["final"]["short"], node["final"]["long"])
        assert output["stop_reason"] == node["stop_reason"]


def _undecided(steps: list[Step]) -> list[Step]:
    """Return steps without probabilities, and without ids: a tree stores a passage that has two of them once."""
    nameless = [[{**passage, "id": ""} for passage in step["passages"] or []] for step in steps]
    return [cast(Step, {**s, "p_retrieve": None, "passages": p}) for s, p in zip(steps, nameless, strict=True)]


@given(worlds(4), st.integers(1, 5))
def test_inference_by_threshold_takes_every_path_of_a_world_as_the_search_did(world: World, max_steps: int) -> None:
    known = Worlds([world])
    context = context_of({"max_steps": max_steps}, calibrate="all")
    tree = explore(world.question, [world.answer], ScriptedPolicy(known.reply), known.retriever(), context=context)
    assert len(ends(tree)) == 2 ** min(max_steps, len(world.facts))
    check_against_thresholds(tree, known.reply, known.retriever(), context)


@given(trees.filter(lambda root: isinstance(root, Fork)), st.integers(1, 5))
def test_inference_by_threshold_takes_every_path_of_forks_as_the_search_did(root: Fork, max_steps: int) -> None:
    context = context_of({"max_steps": max_steps}, calibrate="all")
    guide = Guide(root)
    tree = explore(QUESTION, [GOLD], ScriptedPolicy(guide.reply), Shelf(), context=context)
    check_against_thresholds(tree, guide.reply, Shelf(), context)


# --- inference node by node, with the decisions given: for policies that write anything at all ---


def straight(
    question: str, policy: Policy, retriever: BaseRetriever, path: Sequence[Decision], context: Context
) -> Any:
    """Run the nodes of inference from the question to the end, taking these decisions."""
    parts, state = Parts(policy, retriever), cast(State, {"question": question})
    goto = "decompose"
    while goto != "__end__":
        if goto == "decide":
            taken = len(state["steps"]) - 1
            state["action"] = path[taken] if taken < len(path) else "parametric"
        turn = Turn(state, context, lambda _: None)
        goto = drive(NODES[goto], turn, parts, None)
        state = cast(State, {**state, **turn.update()})
    return state


def check_against_nodes(tree: Tree, scribe: Scribe, retriever: BaseRetriever, context: ExploreContext) -> None:
    for node in ends(tree):
        way = decisions(tree, node)
        state = straight(tree["question"], ScriptedPolicy(scribe), retriever, way, context)
        found = trajectory(tree, node["id"])
        if node["outcome"] == "malformed":  # inference makes the policy conclude here, which is no path of its own
            assert node["final"] == {"long": "", "short": ""}
            assert [step for step in found["steps"] if step["answer"]] == state["steps"]
            assert node["stop_reason"] == state["stop_reason"]
            assert node["stop_reason"] == "malformed" or state["final"] is None
        else:
            assert found["steps"] == state["steps"]
            assert found["final"] == state["final"]
            assert node["stop_reason"] == state["stop_reason"]
            corrections = [text for n in path(tree, node["id"]) for text in n["corrections"]]
            assert corrections == state["corrections"]


@given(scribes(), st.integers(1, 4), st.integers(0, 3))
def test_whatever_a_policy_writes_its_paths_are_those_of_inference(
    scribe: Scribe, max_steps: int, max_retrievals: int
) -> None:
    context = context_of({"max_steps": max_steps, "max_retrievals": max_retrievals}, calibrate="all")
    tree = explore("Which?", ["the marsh"], ScriptedPolicy(scribe), Shelf(), context=context)
    assert not any(node["open"] for node in tree["nodes"])
    check_against_nodes(tree, scribe, Shelf(), context)


def test_a_branch_that_leaves_the_format_ends_without_a_conclusion() -> None:
    def reply(prompt: Prompt) -> Completion:
        if not prompt.trajectory["steps"]:
            return Completion(f"{FOLLOW_UP} Which?\n{ANSWER} one\n{RETRIEVE}")  # a decision where a subquery is due
        return Completion("Well, let me think.")  # without the marker in which the prompt ends

    policy = ScriptedPolicy(reply)
    tree = explore("Which?", ["the marsh"], policy, Shelf())
    assert [(node["outcome"], node["stop_reason"]) for node in tree["nodes"]] == [
        ("inner", ""),
        ("malformed", "malformed"),
        ("malformed", "malformed"),
    ]
    assert [n["corrections"] for n in tree["nodes"][1:]] != [[], []]
    assert tree["nodes"][2]["passages"] != []
    assert trajectory(tree, 2)["steps"][0]["answer"] is None
    assert (tree["outcome"], tree["stop_reason"]) == ("unsolved", "exhausted")


# --- transcripts ---


def check_transcripts(tree: Tree) -> None:
    for node in tree["nodes"]:
        found = trajectory(tree, node["id"])
        text = render(found)
        again = parse(text, found["question"])
        assert again["final"] == found["final"]
        assert bare(again["steps"]) == bare(found["steps"])
        assert render(again) == text


@given(scribes(), st.lists(st.tuples(hostile, hostile), max_size=3), hostile)
def test_hostile_passages_become_neither_actions_nor_answers(
    scribe: Scribe, passages: list[tuple[str, str]], question: str
) -> None:
    """The same policy over harmless passages takes the same paths: what a passage says is never taken for its words."""
    policy = ScriptedPolicy(_deaf(scribe))
    shelf = Found(answer=lambda _: [Document(text, metadata={"title": title}) for text, title in passages])
    tree = explore(question, [GOLD], policy, shelf, context=context_of({"max_steps": 3}))
    harmless = explore(question, [GOLD], ScriptedPolicy(_deaf(scribe)), Shelf(), context=context_of({"max_steps": 3}))
    assert [_plain(node) for node in tree["nodes"]] == [_plain(node) for node in harmless["nodes"]]
    check_transcripts(tree)
    for node in tree["nodes"]:
        by_others = [part for part in segments(trajectory(tree, node["id"])) if part.author == "environment"]
        assert len(by_others) == node["cost"]


def _deaf(scribe: Scribe) -> Callable[[Prompt], Completion]:
    """Return a policy that writes the same whatever the passages say."""

    def reply(prompt: Prompt) -> Completion:
        steps = [{**step, "passages": step["passages"] and []} for step in prompt.trajectory["steps"]]
        deaf = cast(Any, {**prompt.trajectory, "steps": steps})
        return scribe(Prompt(deaf, prompt.lead))

    return reply


def _plain(node: Node) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in ("passages", "scores")}


# --- passages ---


def test_a_passage_is_stored_once_and_a_path_has_it_at_each_retrieval_with_its_score() -> None:
    one, two = Document("one", id="1"), Document("two", id="2")
    found = {"": [one, two], "r": [two, one, one]}

    def answer(query: str) -> list[Document]:
        documents = found["r" if "‹r›" in query else ""]
        return [Document(d.page_content, id=d.id, metadata={"score": len(query) - n}) for n, d in enumerate(documents)]

    root = Fork(End(False), Fork(End(False), End(True), "retrieve"), "retrieve")
    tree = explore(QUESTION, [GOLD], ScriptedPolicy(Guide(root).reply), Found(answer=answer))
    assert tree["passages"] == [{"id": "1", "title": "", "text": "one"}, {"id": "2", "title": "", "text": "two"}]
    best = path(tree, tree["best"])
    assert [node["passages"] for node in best] == [[], ["1", "2"], ["2", "1", "1"]]
    steps = trajectory(tree, tree["best"])["steps"]
    assert [[p["text"] for p in step["passages"] or []] for step in steps] == [["one", "two"], ["two", "one", "one"]]
    scores = [[p["score"] for p in step["passages"] or []] for step in steps]
    assert scores == [node["scores"] for node in best[1:]]
    assert scores[0][0] != scores[1][0]


_documents = st.builds(
    lambda id, title, text: Document(text, id=id, metadata={"title": title}),
    st.sampled_from([None, "", "1", "1#0", "1#1", "#0", "#1", "2"]),
    st.sampled_from(["", "A", "B"]),
    st.sampled_from(["x", "y", "z", ""]),
)


@given(st.lists(st.lists(_documents, max_size=3), min_size=1, max_size=4), trees)
def test_two_passages_have_two_ids_whatever_the_retriever_calls_them(
    found: list[list[Document]], root: Fork | End
) -> None:
    shelf = Found(answer=lambda query: found[len(query) % len(found)])
    tree = explore(QUESTION, ["nowhere"], ScriptedPolicy(Guide(root).reply), shelf)
    ids = [passage["id"] for passage in tree["passages"]]
    assert all(ids)
    assert len(set(ids)) == len(ids) == len({(p["title"], p["text"]) for p in tree["passages"]})
    used = {id for node in tree["nodes"] for id in node["passages"]}
    assert used == set(ids)
    for node in tree["nodes"]:
        for before, step in zip(path(tree, node["id"]), trajectory(tree, node["id"])["steps"], strict=False):
            asked = before["subquery"] if step["decision"] == "retrieve" else None
            expected = [] if asked is None else [d for d in found[len(asked) % len(found)] if d.page_content]
            texts = [(d.metadata["title"], d.page_content) for d in expected]
            assert [(p["title"], p["text"]) for p in step["passages"] or []] == texts


def test_the_first_passage_with_an_id_keeps_it() -> None:
    documents = [Document(text, id="7") for text in ("one", "two", "three")] + [Document("four")]
    tree = explore(
        QUESTION,
        [GOLD],
        ScriptedPolicy(Guide(Fork(End(False), End(False))).reply),
        Found(answer=lambda _: documents),
        context=ExploreContext(k=4),
    )
    assert tree["passages"][0] == {"id": "7", "title": "", "text": "one"}
    assert len({passage["id"] for passage in tree["passages"]}) == 4


# --- reading a tree ---


@given(trees)
def test_children_and_what_is_under_a_decision_are_found_by_the_numbers_of_their_parents(root: Fork | End) -> None:
    tree = explore(QUESTION, ["nowhere"], ScriptedPolicy(Guide(root).reply), Shelf())
    for node in tree["nodes"]:
        below = {action: [n["id"] for n in within(tree, node["id"], action)] for action in ACTIONS}
        assert {action: child["id"] for action, child in children(tree, node["id"]).items()} == {
            action: ids[0] for action, ids in below.items() if ids
        }
        way = decisions(tree, node)
        for action, ids in below.items():
            begin = (*way, action)
            expected = [n["id"] for n in tree["nodes"] if decisions(tree, n)[: len(begin)] == begin]
            assert ids == expected


def test_a_node_says_what_the_policy_wanted_there() -> None:
    root = Fork(Fork(End(False), End(False)), Fork(End(False), End(False), "retrieve"), "parametric")
    tree = explore(QUESTION, ["nowhere"], Led(Guide(root).reply, ["retrieve"]), Shelf())
    said = {decisions(tree, node): (node["written"], node["p_retrieve"]) for node in tree["nodes"] if node["subquery"]}
    assert said == {(): ("parametric", 1.0), ("parametric",): ("", None), ("retrieve",): ("retrieve", 0.5)}
