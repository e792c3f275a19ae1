"""Exploration as a graph: the five nodes of the decision process and `select`, which decides what is tried next.

    START → select → decompose → select ─→ decide ─┬─ retrieve → answer ─┬→ decompose → select …
                                    │              └──────────── answer ─┘
                                    └─→ END          decompose (terminate) → conclude → select

The nodes are those of inference; where that goes on from a subquery, or ends, a search goes back to `select`.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, cast

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import Checkpointer, Command, Send
from typing_extensions import TypedDict

from deeprag_graph.effects import Parts
from deeprag_graph.explore.search import SELECT, ExploreContext, Search, absorb, begin, branch, reroute
from deeprag_graph.explore.tree import Node as TreeNode
from deeprag_graph.explore.tree import Tree
from deeprag_graph.graph import Node, check_parts, context_of
from deeprag_graph.nodes import NEXT, NODES
from deeprag_graph.policies.base import Policy
from deeprag_graph.state import State, StopReason, Usage
from deeprag_graph.transcript import Decision, FinalAnswer, Move, Step

_SUPERSTEPS_A_BRANCH: Final = 6  # decide, retrieve, answer, decompose, conclude, select
_RECURSION_LIMIT: Final = 10_000
_NEXT: Final = {
    "decompose": (SELECT, "conclude"),
    "decide": ("retrieve", "answer"),
    "retrieve": ("answer", SELECT),
    "answer": ("decompose", SELECT),
    "conclude": (SELECT,),
}


class ExploreInput(TypedDict):
    """What a search is given; the gold `answers` never enter a prompt."""

    question: str
    answers: list[str]


class ExploreOutput(TypedDict):
    """What a search returns."""

    tree: Tree


class ExploreState(ExploreInput, ExploreOutput):
    """The state of a search: the tree so far, and the branch that is worked on, which the five nodes know.

    `supersteps` is not `remaining_steps`, in view of which the five nodes would conclude early.
    """

    search: Search | None
    steps: list[Step]
    final: FinalAnswer | None
    pending: list[Move]
    corrections: list[str]
    usage: Usage
    stop_reason: StopReason | None
    error: str | None
    seen_message: str
    asked: str
    ended: bool
    approve_retrievals: bool
    action: Decision | None
    supersteps: RemainingSteps


class NodeEvent(TypedDict):
    """A node more in the tree; streamed in mode `custom` beside the events of the five nodes."""

    type: Literal["node"]
    node: TreeNode


ExplorationGraph = CompiledStateGraph[ExploreState, ExploreContext, ExploreInput, ExploreOutput]
__all__ = ["ExplorationGraph", "ExploreInput", "ExploreOutput", "NodeEvent", "build_exploration_graph"]


def build_exploration_graph(
    policy: Policy,
    retriever: BaseRetriever,
    *,
    target: Policy | None = None,
    context: ExploreContext | None = None,
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    name: str = "explore",
) -> ExplorationGraph:
    """Compile the graph of a search, for Studio, streams and checkpoints; `explore` gives the same tree.

    Args:
        policy: who writes.
        retriever: any LangChain retriever.
        target: who writes the answers from parameters, where that is another model than the one that writes the rest.
        context: settings for runs that are started without `context=`.
        checkpointer: any LangGraph checkpointer: a search that was killed goes on from its last superstep.
        store: any LangGraph store, to keep retrievals.
        name: name of the graph in traces and in Studio.

    Raises:
        OperatorError: a part is of another kind.
    """
    parts = check_parts(Parts(policy, retriever, target))
    return compile_exploration(parts, context or ExploreContext(), ExploreContext, checkpointer, store, name)


def compile_exploration(
    parts: Parts | Callable[[Any], Parts],
    defaults: ExploreContext,
    context_schema: type[ExploreContext],
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    name: str = "explore",
) -> ExplorationGraph:
    """Compile the graph with parts that may depend on the run's context, as `graph.compile_graph` does."""
    builder = StateGraph(ExploreState, context_schema, input_schema=ExploreInput, output_schema=ExploreOutput)
    for title, logic in NODES.items():
        node: Any = Node(title, logic, parts, defaults, reroute)
        builder.add_node(title, node, destinations=_NEXT[title], metadata={"description": logic.__doc__ or ""})
    select: Any = _Select(defaults)
    description = "Put the branch into the tree, and choose the next decision to try: the cheapest, deepest, oldest."
    destinations = ("decompose", "decide", END)
    builder.add_node(SELECT, select.run, destinations=destinations, metadata={"description": description})
    builder.add_conditional_edges(START, _anew, [SELECT])
    graph = builder.compile(checkpointer=checkpointer, store=store, name=name)
    return graph.with_config(RunnableConfig(recursion_limit=_RECURSION_LIMIT))


def _anew(state: ExploreState) -> Send:
    """Begin a search with the input alone: a thread may have left another one half-way."""
    return Send(SELECT, {"question": state.get("question"), "answers": state.get("answers")})


class _Select(NamedTuple):
    """The node of the search."""

    defaults: ExploreContext

    def run(self, state: ExploreState, runtime: Runtime[ExploreContext]) -> Command[str]:
        """Put the branch into the tree, and choose the next decision to try, or end."""
        context, search = context_of(runtime, self.defaults), state.get("search")
        if search is None:
            search = begin(state["question"] or "", state["answers"])
            return Command(goto="decompose", update={"search": search, "ended": True})
        known = len(search["tree"]["nodes"])
        search = absorb(search, cast(State, state), context)
        for node in search["tree"]["nodes"][known:]:
            runtime.stream_writer(NodeEvent(type="node", node=node))
        search, following = branch(search, context)
        if following is not None and state["supersteps"] <= _SUPERSTEPS_A_BRANCH:
            search["tree"]["stop_reason"] = "recursion_limit"
            search, following = branch(search, context)
        if following is None:
            return Command(goto=END, update={"tree": search["tree"], "search": None, "ended": True})
        return Command(goto="decide", update={**following, "search": search})


assert set(_NEXT) == set(NEXT)
