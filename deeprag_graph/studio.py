"""What LangGraph Studio opens (langgraph.json): the graph with its parts chosen in the panel, and a scripted one."""

from functools import lru_cache
from threading import Lock

from pydantic import Field

from deeprag_graph.effects import Parts
from deeprag_graph.graph import compile_graph
from deeprag_graph.parts import PolicyKind, make_policy, make_retriever
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.state import Context
from deeprag_graph.transcript import ANSWER, FINAL, FOLLOW_UP, RETRIEVE


class StudioContext(Context):
    """Settings of one run, with the parts that the graph works with."""

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


_opening = Lock()
_policy = lru_cache(maxsize=4)(make_policy)
_retriever = lru_cache(maxsize=8)(make_retriever)


def _resolve(context: StudioContext) -> Parts:
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


graph = compile_graph(_resolve, StudioContext(), StudioContext, name="deeprag")
scripted = compile_graph(lambda _: Parts(ScriptedPolicy(_script), _retriever()), Context(), Context, name="scripted")
