"""One search by direct call, sync or async: the loop that takes a branch through the graph's nodes, without LangGraph.

The same nodes and the same `search` as in the graph of `graph.py`, which Studio shows; here nothing is streamed or
checkpointed, so that hundreds of questions at once cost little more than their model calls.
"""

from collections.abc import Generator, Sequence
from typing import cast

from langchain_core.retrievers import BaseRetriever
from langgraph.store.base import BaseStore

from deeprag_graph.effects import Logic, Parts, adrive, drive
from deeprag_graph.events import Event
from deeprag_graph.explore.search import SELECT, ExploreContext, absorb, begin, branch, opening, reroute
from deeprag_graph.explore.tree import Tree
from deeprag_graph.graph import check_parts
from deeprag_graph.nodes import NODES
from deeprag_graph.policies.base import Policy
from deeprag_graph.search import PassageCache
from deeprag_graph.state import State
from deeprag_graph.turn import Turn

_Loop = Generator[tuple[Logic, Turn], str, Tree]


def explore(
    question: str,
    answers: Sequence[str],
    policy: Policy,
    retriever: BaseRetriever,
    *,
    target: Policy | None = None,
    context: ExploreContext | None = None,
    store: BaseStore | None = None,
) -> Tree:
    """Search for the least-cost right path to an answer (arXiv 2502.01142, algorithm 1).

    Args:
        question: the question.
        answers: the gold answer and its aliases; they are compared with final answers and go nowhere else.
        policy: who writes.
        retriever: any LangChain retriever.
        target: who writes the answers from parameters, where that is another model than the one that writes the rest.
        context: the bounds, the matching, and whether to calibrate.
        store: any LangGraph store, to keep retrievals for other questions.

    Raises:
        OperatorError: only a person can mend it: a server that is not there, a wrong key, the wrong kind of part.

    Returns:
        The whole tree; `tree["outcome"]` says how it ended, `trajectory(tree, tree["best"])` is the path.
    """
    parts = check_parts(Parts(policy, retriever, target))
    loop = _loop(question, answers, context or ExploreContext())
    store = PassageCache() if store is None else store  # the branches of one tree like to ask the same
    try:
        logic, turn = next(loop)
        while True:
            logic, turn = loop.send(drive(logic, turn, parts, store))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def aexplore(
    question: str,
    answers: Sequence[str],
    policy: Policy,
    retriever: BaseRetriever,
    *,
    target: Policy | None = None,
    context: ExploreContext | None = None,
    store: BaseStore | None = None,
) -> Tree:
    """Search without blocking the event loop; see `explore`."""
    parts = check_parts(Parts(policy, retriever, target))
    return await explore_with(parts, question, answers, context or ExploreContext(), store=store)


async def explore_with(
    parts: Parts,
    question: str,
    answers: Sequence[str],
    context: ExploreContext,
    *,
    store: BaseStore | None = None,
    gold_passages: bool = False,
) -> Tree:
    """Search with parts that are checked, patience among them; `gold_passages` is noted in the tree."""
    loop = _loop(question, answers, context, gold_passages=gold_passages)
    store = PassageCache() if store is None else store
    try:
        logic, turn = next(loop)
        while True:
            logic, turn = loop.send(await adrive(logic, turn, parts, store))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _loop(question: str, answers: Sequence[str], context: ExploreContext, *, gold_passages: bool = False) -> _Loop:
    """Yield each node to run with its turn, be sent the name of the next one, and return the tree."""
    search = begin(question, answers, gold_passages=gold_passages)
    state: State | None = opening(question)
    goto = "decompose"
    while state is not None:
        turn = Turn(state, context, _unheard)
        while goto != SELECT:
            goto = reroute((yield NODES[goto], turn), turn)
        search = absorb(search, cast(State, {**state, **turn.update()}), context)
        search, state = branch(search, context)
        goto = "decide"
    return search["tree"]


def _unheard(_: Event) -> None:
    """Nobody listens to the events of a search by direct call."""
