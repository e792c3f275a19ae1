"""Records to draw: a small one of each outcome, one of any size, a hostile one, and real ones of a scripted world."""

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.worlds import Worlds, paper_world
from deeprag_graph import ScriptedPolicy
from deeprag_graph.explore import ExploreContext, explore
from deeprag_graph.explore.tree import Node, Tree
from deeprag_graph.ledger import Record, make_record
from deeprag_graph.state import Usage
from deeprag_graph.transcript import FinalAnswer

SETTINGS: Final = {"policy": "scripted", "index": "worlds", "bounds": {"max_steps": 6, "max_retrievals": 6}}


def node(id: int, parent: int, action: str = "", **more: Any) -> Node:
    """Return a node; one with a subquery goes on, any other is a wrong end, unless it is told."""
    asked = more.get("subquery", "")
    plain = {
        "id": id,
        "parent": parent,
        "action": action,
        "answer": f"answer {id}" if action else "",
        "passages": [],
        "scores": [],
        "depth": 0,
        "cost": 0,
        "subquery": asked,
        "p_retrieve": None,
        "written": "",
        "open": [],
        "outcome": "inner" if asked else "wrong",
        "final": FinalAnswer(long="", short="") if asked else FinalAnswer(long=f"It is end {id}.", short=f"end {id}"),
        "stop_reason": "" if asked else "concluded",
        "error": "",
        "corrections": [],
        "llm_calls": 1,
    }
    return Node(**{**plain, **more})  # type: ignore[typeddict-item]


def record(nodes: Sequence[Node], id: str = "a", dataset: str = "", **more: Any) -> Record:
    """Return the record of a search that took these nodes; the first right one is the best."""
    best = next((n["id"] for n in nodes if n["outcome"] == "right"), -1)
    plain = {
        "question": "Into which sea does the river under the Long Bridge flow?",
        "outcome": "solved" if best >= 0 else "unsolved",
        "stop_reason": "solved" if best >= 0 else "exhausted",
        "cost": nodes[best]["cost"] if best >= 0 else None,
        "best": best,
        "error": "",
        "gold_passages": False,
        "usage": Usage(llm_calls=5, retrievals=2, prompt_tokens=900, completion_tokens=100, seconds=2.5),
        "nodes": list(nodes),
        "passages": [],
    }
    tree = Tree(**{**plain, **more})  # type: ignore[typeddict-item]
    question = {"id": id, "question": tree["question"], "answers": ["North Sea", "the North Sea"], "dataset": dataset}
    return make_record(question, tree, SETTINGS)  # type: ignore[arg-type]


def bridge(**more: Any) -> Record:
    """Return a search of seven nodes that shows each outcome once, and a decision that was not tried."""
    river, sea = "Which river does the Long Bridge cross?", "Into which sea does the Ems flow?"
    right = {"outcome": "right", "final": FinalAnswer(long="It flows into the North Sea.", short="North Sea")}
    nothing = FinalAnswer(long="", short="")
    nodes = [
        node(0, -1, subquery=river, p_retrieve=0.93, written="retrieve"),
        node(1, 0, "parametric", answer="the Rhine", depth=1, subquery="Where does the Rhine end?",
             written="parametric"),
        node(2, 1, "parametric", depth=2, llm_calls=0),
        node(3, 1, "retrieve", depth=2, cost=1, outcome="malformed", stop_reason="malformed", final=nothing,
             corrections=["step 2: it wrote an answer ('well') where a decision was due; dropped"]),
        node(4, 0, "retrieve", answer="the Ems", passages=["p1", "p2"], scores=[9.25, None], depth=1, cost=1,
             subquery=sea, p_retrieve=0.41, written="retrieve", open=["retrieve"]),
        node(5, 4, "parametric", answer="the North Sea", depth=2, cost=1, llm_calls=0, **right),
    ]  # fmt: skip
    passages = [
        {"id": "p1", "title": "Long Bridge", "text": "The Long Bridge, built in 1857, crosses the River Ems."},
        {"id": "p2", "title": "", "text": "A bridge without a title leads over the Ems as well."},
    ]
    return record(nodes, id="bridge", dataset="rivers", passages=passages, **more)


def wide(size: int) -> Record:
    """Return a search whose nodes fill a binary tree level by level; its last node is right."""
    depths, costs, nodes = [0], [0], []
    for id in range(1, size):
        parent, retrieves = (id - 1) // 2, id % 2 == 0
        depths.append(depths[parent] + 1)
        costs.append(costs[parent] + retrieves)
    for id in range(size):
        inner = 2 * id + 1 < size
        more: dict[str, Any] = (
            {"subquery": f"What is fact {id} of the chain of the old mills?", "written": "retrieve"} if inner else {}
        )
        if inner and 2 * id + 2 >= size:
            more["open"] = ["retrieve"]
        if id == size - 1:
            more |= {"outcome": "right", "subquery": ""}
        action = "" if id == 0 else "retrieve" if id % 2 == 0 else "parametric"
        cited = [f"p{id % 40}", f"p{(id + 1) % 40}"] if action == "retrieve" else []
        nodes.append(
            node(id, (id - 1) // 2 if id else -1, action, depth=depths[id], cost=costs[id], passages=cited,
                 scores=[8.5, 7.25][: len(cited)], p_retrieve=(id % 100) / 100, llm_calls=id % 2, **more)
        )  # fmt: skip
    passages = [{"id": f"p{n}", "title": f"Mill {n}", "text": "The mill stands at the river. " * 20} for n in range(40)]
    return record(nodes, id=f"wide-{size}", passages=passages)


def chain(depth: int) -> Record:
    """Return a search of one path that never branches."""
    nodes = [
        node(d, d - 1, "retrieve" if d else "", depth=d, cost=d, open=["parametric"], subquery=f"What comes after {d}?")
        for d in range(depth)
    ]
    return record([*nodes, node(depth, depth - 1, "retrieve", depth=depth, cost=depth, outcome="right")], id="chain")


HOSTILE: Final = (
    "</script></style></title><script>window.hit=1</script><img src=x onerror='window.hit=1'>\"' onfocus=window.hit=1 "
    "<svg onload=window.hit=1> &lt;b&gt; \u202eolleh\u2066 \x00\x1b[31m \ud800 ]]> --> `${window.hit=1}` <!-- "
)


def hostile() -> Record:
    """Return a search in which each text tries to become something else."""
    nodes = [
        node(0, -1, subquery=HOSTILE, written="retrieve"),
        node(1, 0, "retrieve", answer=HOSTILE, passages=[HOSTILE], scores=[1.0], depth=1, cost=1, outcome="right",
             final=FinalAnswer(long=HOSTILE, short=HOSTILE), stop_reason="concluded", corrections=[HOSTILE]),
        node(2, 0, "parametric", answer=HOSTILE, depth=1, outcome="failed", stop_reason="policy_failed", error=HOSTILE),
    ]  # fmt: skip
    found = record(
        nodes,
        id=HOSTILE,
        dataset=HOSTILE,
        question=HOSTILE,
        error=HOSTILE,
        passages=[{"id": HOSTILE, "title": HOSTILE, "text": HOSTILE + "x" * 1_000_000}],
    )
    return Record(**{**found, "answers": [HOSTILE], "settings": {HOSTILE: {HOSTILE: HOSTILE}}})


def real(questions: int, context: ExploreContext | None = None) -> list[Record]:
    """Return searches of a scripted world."""
    worlds = paper_world(questions)
    behind = Worlds(worlds)
    policy, retriever = ScriptedPolicy(behind.reply), behind.retriever()
    return [
        make_record(
            {"id": world.name, "question": world.question, "answers": [world.answer]},
            explore(world.question, [world.answer], policy, retriever, context=context),
            SETTINGS,
        )
        for world in worlds
    ]
