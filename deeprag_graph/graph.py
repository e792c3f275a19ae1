"""The graph: five nodes over one state, compiled with a policy and a retriever, for sync, async and streamed runs."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.types import Checkpointer, Command

from deeprag_graph.effects import Logic, Parts, adrive, drive
from deeprag_graph.errors import OperatorError
from deeprag_graph.nodes import NEXT, NODES
from deeprag_graph.policies.base import Policy
from deeprag_graph.state import Context, Input, Output, State
from deeprag_graph.turn import Turn

DeepRAGGraph = CompiledStateGraph[State, Context, Input, Output]


def build_graph(
    policy: Policy,
    retriever: BaseRetriever,
    *,
    context: Context | None = None,
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    name: str = "deeprag",
) -> DeepRAGGraph:
    """Compile the graph of the decision process.

    Args:
        policy: who writes subqueries, decisions and answers.
        retriever: any LangChain retriever; it is asked for the context's `k` passages if it takes a `k`.
        context: settings for runs that are started without `context=`.
        checkpointer: any LangGraph checkpointer, for threads, interrupts and resuming.
        store: any LangGraph store; retrievals are looked up there first and kept there, for retrievers that say with
            a `fingerprint` (an attribute, or in their `metadata`) which passages they search.
        name: name of the graph in traces and in Studio.

    Raises:
        OperatorError: the policy or the retriever is something else.

    Returns:
        A compiled LangGraph graph: input `Input`, output `Output`, events `Event` in stream mode `custom`.
    """
    return compile_graph(
        check_parts(Parts(policy, retriever)), context or Context(), Context, checkpointer, store, name
    )


def check_parts(parts: Parts) -> Parts:
    """Return `parts`, or raise `OperatorError` where one of them is something else."""
    for policy in filter(None, (parts.policy, parts.target)):
        if not isinstance(policy, Policy):
            kind = type(policy).__name__
            raise OperatorError(f"The policy is of type {kind}; a chat model becomes a policy with ChatPolicy(model).")
    if not isinstance(parts.retriever, BaseRetriever):
        kind = type(parts.retriever).__name__
        raise OperatorError(f"The retriever is of type {kind}; an index becomes a retriever with BM25Retriever(index).")
    return parts


def compile_graph(
    parts: Parts | Callable[[Any], Parts],
    defaults: Context,
    context_schema: type[Context],
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    name: str = "deeprag",
) -> DeepRAGGraph:
    """Compile the graph with parts that may depend on the run's context.

    A function of the context must cache what is dear to make; every node calls it, async ones in a thread.
    """
    builder = StateGraph(State, context_schema, input_schema=Input, output_schema=Output)
    for title, logic in NODES.items():
        node = Node(title, logic, parts, defaults)
        builder.add_node(title, node, destinations=NEXT[title], metadata={"description": logic.__doc__ or ""})
    builder.add_edge(START, "decompose")
    return builder.compile(checkpointer=checkpointer, store=store, name=name)


class Node(Runnable[State, Command[str]]):
    """One node: runs its logic, and carries out the effects that it yields.

    `logic` is a node of `nodes.py`. `parts` may be a function of the context; async runs call it in a thread. `reroute`
    says where to go instead, from the name of the next node and the turn: the search of `explore` goes its own way.
    """

    def __init__(
        self,
        name: str,
        logic: Logic,
        parts: Parts | Callable[[Any], Parts],
        defaults: Context,
        reroute: Callable[[str, Turn], str] = lambda goto, _: goto,
    ) -> None:
        self.name, self._logic, self._parts, self._defaults = name, logic, parts, defaults
        self._reroute = reroute

    def invoke(self, input: State, config: RunnableConfig | None = None, **_: Any) -> Command[str]:
        """Run the node."""
        runtime, turn = self._open(input)
        parts = self._parts if isinstance(self._parts, Parts) else self._parts(turn.context)
        goto = drive(self._logic, turn, parts, runtime.store)
        return Command(goto=self._reroute(goto, turn), update=turn.update())

    async def ainvoke(self, input: State, config: RunnableConfig | None = None, **_: Any) -> Command[str]:
        """Run the node without blocking the event loop."""
        runtime, turn = self._open(input)
        # in a thread: opening a model or an index may take seconds
        parts = self._parts if isinstance(self._parts, Parts) else await asyncio.to_thread(self._parts, turn.context)
        goto = await adrive(self._logic, turn, parts, runtime.store)
        return Command(goto=self._reroute(goto, turn), update=turn.update())

    def _open(self, state: State) -> tuple[Runtime[Any], Turn]:
        runtime = get_runtime()
        return runtime, Turn(state, context_of(runtime, self._defaults), runtime.stream_writer)


_C = TypeVar("_C", bound=Context)


def context_of(runtime: Runtime[Any], defaults: _C) -> _C:
    """Return the run's context, or the defaults where it has none: a parent graph may have a context of its own."""
    return runtime.context if isinstance(runtime.context, type(defaults)) else defaults
