"""What LangGraph Studio opens (langgraph.json): both graphs with their parts chosen in the panel, and scripted."""

from functools import lru_cache
from threading import Lock

from pydantic import BaseModel, Field

from deeprag_graph.effects import Parts
from deeprag_graph.explore.graph import compile_exploration
from deeprag_graph.explore.search import ExploreContext
from deeprag_graph.graph import compile_graph
from deeprag_graph.parts import PolicyKind, make_policy, make_retriever
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.state import Context
from deeprag_graph.transcript import ANSWER, FINAL, FOLLOW_UP, RETRIEVE


class _StudioParts(BaseModel):
    """The parts that a graph works with."""

    policy: PolicyKind = Field(
        "local",
        title="Policy",
        description="Who writes: 'local' (a small model on this machine, fetched once), 'chat' (any chat model behind "
        "an OpenAI-compatible address), 'completion' (a model tuned on the transcript, served by vLLM or llama.cpp).",
    )
    model: str = Field(
        "",
        title="Model",
        description="Name of the model at the provider or on the server; for 'local' a GGUF file. Empty: the default.",
    )
    base_url: str = Field(
        "",
        title="Server",
        description="Address of an OpenAI-compatible model server, with /v1; the key comes from OPENAI_API_KEY. "
        "Empty: the provider's own.",
    )
    index: str = Field(
        "",
        title="Index",
        description="Folder or http://HOST:PORT/NAME, built with `deeprag index`. Empty: the starter corpus.",
        json_schema_extra={"langgraph_nodes": ["retrieve"]},
    )


class StudioContext(_StudioParts, Context):
    """Settings of one run, with the parts that the graph works with."""


class StudioExploreContext(_StudioParts, ExploreContext):
    """Settings of one search, with the parts that the graph works with."""


_opening = Lock()
_policy = lru_cache(maxsize=4)(make_policy)
_retriever = lru_cache(maxsize=8)(make_retriever)


def _resolve(context: _StudioParts) -> Parts:
    with _opening:  # runs that begin at the same time share one model
        policy = _policy(context.policy, context.model or None, context.base_url or None)
        return Parts(policy, _retriever(context.index or None))


def _script(prompt: Prompt) -> Completion:
    """Look the question up, then take the best passage's words for the answer."""
    steps = prompt.trajectory["steps"]
    passages = [passage for step in steps for passage in step["passages"] or []]
    title = passages[0]["title"] if passages else "nothing"
    text = passages[0]["text"] if passages else "No passage was asked for."
    final = f"{FINAL} <answer long>The best passage is about {title}.</answer long><answer short>{title}</answer short>"
    if prompt.lead == FINAL:
        reply = final
    elif not prompt.opening:
        reply = f"{FOLLOW_UP} {prompt.trajectory['question']}\n{RETRIEVE}\n"
    elif len(steps) == 1:
        reply = f"{ANSWER} {title}\n{FOLLOW_UP} What is said of {title}?\n{ANSWER} {text}\n{final}"
    else:
        reply = f"{ANSWER} {text}\n{final}"
    chances = {RETRIEVE: 0.9, f"{ANSWER} {text}": 0.1}
    p_retrieve = {reply.rfind(line): p for line, p in chances.items() if line in reply}
    return Completion(reply, completion_tokens=len(reply.split()), p_retrieve=p_retrieve)


_PAINTER, _OTHER = "Carel Fabritius", "Rembrandt"
_BORN = {_PAINTER: "Middenbeemster", _OTHER: "Leiden"}


def _search_script(prompt: Prompt) -> Completion:
    """Ask who painted The Goldfinch, be wrong about it unless a passage tells, then know where the painter was born."""
    steps = prompt.trajectory["steps"]
    told = any(_PAINTER in passage["text"] for step in steps[:1] for passage in step["passages"] or [])
    painter = _PAINTER if told else _OTHER
    village = _BORN[painter]
    lines = [
        f"{FOLLOW_UP} Who painted The Goldfinch?",
        f"{ANSWER} {painter}",
        f"{FOLLOW_UP} In which village was {painter} born?",
        f"{ANSWER} {village}",
        f"{FINAL} <answer long>It is {village}.</answer long><answer short>{village}</answer short>",
    ]
    written = sum(1 if step["answer"] is None else 2 for step in steps)
    reply = "\n".join(lines[-1:] if prompt.lead == FINAL else lines[written:])
    chances = {lines[1]: 0.3, lines[3]: 0.2}
    p_retrieve = {reply.find(line): p for line, p in chances.items() if line in reply}
    return Completion(reply, completion_tokens=len(reply.split()), p_retrieve=p_retrieve)


graph = compile_graph(_resolve, StudioContext(), StudioContext, name="deeprag")
scripted = compile_graph(lambda _: Parts(ScriptedPolicy(_script), _retriever()), Context(), Context, name="scripted")
explore = compile_exploration(_resolve, StudioExploreContext(), StudioExploreContext, name="explore")
explore_scripted = compile_exploration(
    lambda _: Parts(ScriptedPolicy(_search_script), _retriever()),
    ExploreContext(),
    ExploreContext,
    name="explore_scripted",
)
