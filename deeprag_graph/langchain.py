"""DeepRAG where LangChain expects a retriever or a tool; a node of a messages graph is the compiled graph as it is."""

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.graph import DeepRAGGraph
from deeprag_graph.retrieval.index import check_k
from deeprag_graph.state import Context, Input, Output
from deeprag_graph.transcript import Step, passage_key

TOOL_NAME = "deeprag"
TOOL_DESCRIPTION = (
    "Answers a question of fact that takes several steps, looking up what is not known for sure. "
    "Give it the whole question, as a sentence that makes sense by itself."
)


def recursion_limit(context: Context | None) -> int:
    """Return the LangGraph recursion limit that an episode within the budgets of `context` cannot reach.

    The graph concludes before it reaches any limit, but `batch`, a chain and a call from inside a tool set one of 25
    supersteps, in which five steps fit: give `config={"recursion_limit": recursion_limit(context)}` there to have the
    whole budget. None stands for the settings that the graph was built with, which are not known here.
    """
    # decompose, decide, retrieve and answer for each step; decompose and conclude at the end; one that is never run
    return 10_000 if context is None else 4 * context.max_steps + 3


class DeepRAGRetriever(BaseRetriever):
    """Answers the query and returns the passages it gathered on the way, the best of every step first.

    Args:
        graph: the graph of `build_graph`, without a checkpointer of its own.
        context: settings of the runs; by default those the graph was built with.
        k: how many of the passages to return at most; all by default. A call may override it: `invoke(query, k=5)`.

    Each passage comes once, as a `Document` with its `id` and, in `metadata`: `title` and `score`; `step` (from 1),
    `subquery`, `decision` and `p_retrieve` of the step that ranked it first; `answer` and `stop_reason` of the run.

    Raises `RetrievalError` when the run failed before it found a passage, `OperatorError` when `k` is below 1, and when
    the run waits for approval and nothing keeps it until then.
    """

    graph: DeepRAGGraph
    context: Context | None = None
    k: int | None = None

    def __init__(
        self, graph: DeepRAGGraph, context: Context | None = None, k: int | None = None, **settings: Any
    ) -> None:
        super().__init__(**{"graph": graph, "context": context, "k": _at_least_1(k), **settings})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        most = self.k if k is None else _at_least_1(k)
        config = RunnableConfig(callbacks=run_manager.get_child(), recursion_limit=recursion_limit(self.context))
        output = self.graph.invoke(Input(question=query), config, context=self.context)
        return _documents(_checked(output), most)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        most = self.k if k is None else _at_least_1(k)
        config = RunnableConfig(callbacks=run_manager.get_child(), recursion_limit=recursion_limit(self.context))
        output = await self.graph.ainvoke(Input(question=query), config, context=self.context)
        return _documents(_checked(output), most)


def deeprag_tool(
    graph: DeepRAGGraph,
    name: str = TOOL_NAME,
    description: str = TOOL_DESCRIPTION,
    *,
    context: Context | None = None,
) -> StructuredTool:
    """Return a tool that answers a question with the graph, for agents and for chat models that call tools.

    Args:
        graph: the graph of `build_graph`, without a checkpointer of its own: in an agent it shares the agent's.
        name: name of the tool.
        description: what the agent is told of it.
        context: settings of the runs; by default those the graph was built with.

    Returns:
        A tool with one argument, `question`. Its content is the answer and how it was found, with the passages by
        number; its artifact is the whole `Output`. A run that found no answer says so in the content.
    """

    limit = recursion_limit(context)

    def answer(question: str, config: RunnableConfig) -> tuple[str, Output]:
        limited: RunnableConfig = {**config, "recursion_limit": limit}
        output = _checked(graph.invoke(Input(question=question), limited, context=context))
        return _content(output), output

    async def aanswer(question: str, config: RunnableConfig) -> tuple[str, Output]:
        limited: RunnableConfig = {**config, "recursion_limit": limit}
        output = _checked(await graph.ainvoke(Input(question=question), limited, context=context))
        return _content(output), output

    return StructuredTool.from_function(
        answer, aanswer, name=name, description=description, response_format="content_and_artifact"
    )


def _content(output: Output) -> str:
    """Return the answer with its steps as text; passages are cited by their number in `output["passages"]`, from 1."""
    if not output["answer_long"]:
        return f"No answer was found ({output['stop_reason']}). {output['error'] or ''}".rstrip()
    numbers = {passage_key(passage): n for n, passage in enumerate(output["passages"], 1)}
    steps = [_line(n, step, numbers) for n, step in enumerate(output["steps"], 1)]
    cited = [f"[{n}] {passage['title'] or passage['id']}" for n, passage in enumerate(output["passages"], 1)]
    return "\n\n".join("\n".join(part) for part in ([output["answer_long"]], steps, cited) if part)


def _line(number: int, step: Step, numbers: dict[tuple[str, str, str], int]) -> str:
    if step["decision"] == "parametric":
        source = "from memory"
    else:
        cited = "".join(f"[{numbers[passage_key(passage)]}]" for passage in step["passages"] or [])
        source = cited or "no passage was found"
    return f"{number}. {step['subquery']} {step['answer']} ({source})"


def _at_least_1(k: int | None) -> int | None:
    if k is not None:
        check_k(k)
    return k


def _documents(output: Output, k: int | None) -> list[Document]:
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for number, step in enumerate(output["steps"], 1):
        for rank, passage in enumerate(step["passages"] or []):
            place = found.setdefault(passage_key(passage), (rank, number))
            found[passage_key(passage)] = min(place, (rank, number))
    if output["error"] and not found:
        raise RetrievalError(output["error"])
    # scores of different subqueries do not compare, ranks do
    return [_document(output, rank, number) for rank, number in sorted(found.values())[:k]]


def _document(output: Output, rank: int, number: int) -> Document:
    step = output["steps"][number - 1]
    passage = (step["passages"] or [])[rank]
    metadata = {
        "title": passage["title"],
        "score": passage["score"],
        "step": number,
        "subquery": step["subquery"],
        "decision": step["decision"],
        "p_retrieve": step["p_retrieve"],
        "answer": output["answer"],
        "stop_reason": output["stop_reason"],
    }
    return Document(page_content=passage["text"], id=passage["id"] or None, metadata=metadata)


def _checked(output: Any) -> Output:
    """Return the output of a run that has ended."""
    if "__interrupt__" in output:
        raise OperatorError(
            "The run waits for approval of a retrieval, and there is no checkpointer to keep it: use it in a graph or "
            "an agent with a checkpointer, or leave approve_retrievals off."
        )
    return output  # type: ignore[no-any-return]
