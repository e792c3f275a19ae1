"""Lines of ledgers for the tests: from a trajectory, or from a search in a scripted world."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.worlds import Fact, World, Worlds
from deeprag_graph.explore import ExploreContext, Node, Tree, explore
from deeprag_graph.explore.search import Calibration
from deeprag_graph.ledger import Ledger, Record, make_record
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.questions import Question
from deeprag_graph.state import Usage
from deeprag_graph.transcript import Decision, FinalAnswer, Passage, Step, Trajectory

SETTINGS = {"policy": "scripted", "index": None, "bounds": {"max_steps": 6}}
EASY = Fact(known=True, passage=True)  # right either way


def step(subquery: str, answer: str = "Lorem Lake", passages: Sequence[str] | None = None) -> Step:
    """Return a step; with passages it is one that retrieved."""
    found = [Passage(id=f"p {text}", title="A title", text=text, score=1.5) for text in passages or []]
    decision: Decision = "parametric" if passages is None else "retrieve"
    return Step(subquery=subquery, decision=decision, p_retrieve=0.25, passages=found, answer=answer)


def walked(*steps: Step, question: str = "Which lake is it?", short: str = "Lorem Lake") -> Trajectory:
    """Return a finished trajectory."""
    final = FinalAnswer(long=f"It is {short}." if short else "", short=short)
    return Trajectory(question=question, steps=list(steps), final=final)


GOOD = walked(step("Which lake is large?"), step("Is it Lorem Lake?", "Yes, Lorem Lake.", ["Lorem Lake is large."]))


def tree_of(walk: Trajectory, **end: Any) -> Tree:
    """Return a tree that holds one right path; `end` changes its last node."""
    texts = {(p["title"], p["text"]): p for s in walk["steps"] for p in s["passages"] or []}
    ids = {key: f"p{n}" for n, key in enumerate(texts)}
    asked = [s["subquery"] for s in walk["steps"]]
    nodes, cost = [_node(None, walk, 0)], 0
    for done in walk["steps"]:
        cost += done["decision"] == "retrieve"
        node = _node(done, walk, cost)
        node["id"], node["parent"], node["depth"] = len(nodes), len(nodes) - 1, len(nodes)
        node["passages"] = [ids[p["title"], p["text"]] for p in done["passages"] or []]
        node["subquery"] = "".join(asked[len(nodes) : len(nodes) + 1])
        nodes.append(node)
    final = walk["final"] or FinalAnswer(long="", short="")
    last = {**nodes[-1], "outcome": "right", "stop_reason": "concluded", "final": final, **end}
    nodes[-1] = cast(Node, last)
    return Tree(
        question=walk["question"],
        outcome="solved",
        stop_reason="solved",
        cost=cost,
        best=len(nodes) - 1,
        error="",
        gold_passages=False,
        usage=Usage(llm_calls=1, retrievals=cost, prompt_tokens=9, completion_tokens=9, seconds=0.5),
        nodes=nodes,
        passages=[{"id": ids[key], "title": p["title"], "text": p["text"]} for key, p in texts.items()],
    )


def _node(done: Step | None, walk: Trajectory, cost: int) -> Node:
    return Node(
        id=0,
        parent=-1,
        action=(done["decision"] or "") if done else "",
        answer=(done["answer"] or "") if done else "",
        passages=[],
        scores=[p["score"] for p in done["passages"] or []] if done else [],
        depth=0,
        cost=cost,
        subquery=walk["steps"][0]["subquery"] if walk["steps"] and not done else "",
        p_retrieve=0.25,
        written="",
        open=[],
        outcome="inner",
        final=FinalAnswer(long="", short=""),
        stop_reason="",
        error="",
        corrections=[],
        llm_calls=1,
    )


def record_of(walk: Trajectory = GOOD, id: str = "q", dataset: str = "", **changes: Any) -> Record:
    """Return a line with one right path; `changes` are to the line."""
    question = Question(id=id, question=walk["question"], answers=["Lorem Lake"])
    record = make_record(cast(Question, question | {"dataset": dataset}), tree_of(walk), SETTINGS)
    return cast(Record, {**record, **changes})


def searched(world: World, calibrate: Calibration = "none", **bounds: int) -> Record:
    """Return the line of a search in a world; the question's id is the world's name."""
    known = Worlds([world])
    context = ExploreContext(calibrate=calibrate, **bounds)
    policy = ScriptedPolicy(known.reply)
    tree = explore(world.question, [world.answer], policy, known.retriever(), context=context)
    return make_record(Question(id=world.name, question=world.question, answers=[world.answer]), tree, SETTINGS)


def write_ledger(path: Path, records: Iterable[Record]) -> Path:
    """Write a ledger as an exploration does; also one that has no line yet."""
    path.touch()
    with Ledger(path) as ledger:
        for record in records:
            ledger.append(record)
    return path
