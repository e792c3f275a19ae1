"""DeepRAG on LangGraph: retrieval-augmented reasoning that decides, step by step, whether to look something up."""

from typing import TYPE_CHECKING, Any

from deeprag_graph.errors import DeepRAGError, OperatorError, PolicyError, RetrievalError
from deeprag_graph.events import Event
from deeprag_graph.explore import ExploreContext, Tree, build_exploration_graph
from deeprag_graph.graph import DeepRAGGraph, build_graph
from deeprag_graph.langchain import DeepRAGRetriever, deeprag_tool, recursion_limit
from deeprag_graph.ledger import read_ledger
from deeprag_graph.policies import ChatPolicy, Completion, Policy, Prompt, ScriptedPolicy
from deeprag_graph.retrieval import BM25Index, BM25Retriever, build_index, starter_index, starter_questions
from deeprag_graph.state import Context, Input, Output, StopReason, Usage
from deeprag_graph.transcript import Passage, Step, Trajectory, parse, render, segments

if TYPE_CHECKING:
    from deeprag_graph.policies.completion import CompletionPolicy
    from deeprag_graph.policies.local import LocalPolicy

__all__ = [
    "BM25Index",
    "BM25Retriever",
    "ChatPolicy",
    "Completion",
    "CompletionPolicy",
    "Context",
    "DeepRAGError",
    "DeepRAGGraph",
    "DeepRAGRetriever",
    "Event",
    "ExploreContext",
    "Input",
    "LocalPolicy",
    "OperatorError",
    "Output",
    "Passage",
    "Policy",
    "PolicyError",
    "Prompt",
    "RetrievalError",
    "ScriptedPolicy",
    "Step",
    "StopReason",
    "Trajectory",
    "Tree",
    "Usage",
    "build_exploration_graph",
    "build_graph",
    "build_index",
    "deeprag_tool",
    "parse",
    "read_ledger",
    "recursion_limit",
    "render",
    "segments",
    "starter_index",
    "starter_questions",
]


def __getattr__(name: str) -> Any:
    """Import the policies that need an extra (`openai`, `local`) only when they are asked for."""
    if name == "CompletionPolicy":
        from deeprag_graph.policies.completion import CompletionPolicy  # noqa: PLC0415

        return CompletionPolicy
    if name == "LocalPolicy":
        from deeprag_graph.policies.local import LocalPolicy  # noqa: PLC0415

        return LocalPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
