"""What the tests of the search share: all ways to run one, random worlds, policies that write anything at all."""

import asyncio
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, cast

from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from benchmarks.worlds import Fact, World
from deeprag_graph.explore import ExploreContext, Node, Tree, aexplore, build_exploration_graph, explore, path
from deeprag_graph.explore.graph import ExploreInput
from deeprag_graph.policies.base import Completion, Policy, Prompt
from deeprag_graph.transcript import ANSWER, CONTEXT, FINAL, FOLLOW_UP, RETRIEVE, Decision, render
from tests.fake_server import Shelf

# --- ways to run a search ---

WAYS = ("explore", "aexplore", "invoke", "ainvoke", "stream", "astream")
Run = Callable[..., Tree]


def search(
    way: str,
    question: str,
    answers: Sequence[str],
    policy: Policy,
    retriever: BaseRetriever | None = None,
    target: Policy | None = None,
    context: ExploreContext | None = None,
) -> Tree:
    """Search in one of the `WAYS`."""
    retriever = retriever or Shelf()
    if way == "explore":
        return explore(question, answers, policy, retriever, target=target, context=context)
    if way == "aexplore":
        return asyncio.run(aexplore(question, answers, policy, retriever, target=target, context=context))
    graph: Any = build_exploration_graph(policy, retriever, target=target, context=context)
    given = ExploreInput(question=question, answers=list(answers))
    if way == "invoke":
        return cast(Tree, graph.invoke(given)["tree"])
    if way == "ainvoke":
        return cast(Tree, asyncio.run(graph.ainvoke(given))["tree"])
    if way == "stream":
        return cast(Tree, list(graph.stream(given, stream_mode="values"))[-1]["tree"])

    async def collect() -> Tree:
        parts = [part async for part in graph.astream(given, stream_mode="values")]
        return cast(Tree, parts[-1]["tree"])

    return asyncio.run(collect())


def timeless(tree: Tree) -> Tree:
    """Return the tree without the time that the search took."""
    return cast(Tree, {**tree, "usage": {**tree["usage"], "seconds": 0.0}})


def decisions(tree: Tree, node: Node) -> tuple[Decision, ...]:
    """Return the decisions that lead to a node."""
    return tuple(n["action"] for n in path(tree, node["id"]) if n["action"])


def text_of(tree: Tree) -> str:
    return json.dumps(tree, ensure_ascii=False)


# --- random worlds ---

facts = st.builds(Fact, st.booleans(), st.booleans(), st.booleans(), st.booleans())
bounds = st.fixed_dictionaries({"max_steps": st.integers(1, 7), "max_retrievals": st.integers(0, 6)})


def worlds(max_hops: int = 6) -> st.SearchStrategy[World]:
    return st.lists(facts, min_size=1, max_size=max_hops).map(lambda facts: World("w", tuple(facts)))


def context_of(bounds: dict[str, Any], **settings: Any) -> ExploreContext:
    """Return a context in which only the bounds of a path can end a search."""
    return ExploreContext(**{"max_llm_calls": 10_000, "max_tokens": 10**9, **bounds, **settings})


# --- policies that write anything at all ---

GOLD = "the marsh"
_NOISE = (
    *(FOLLOW_UP, RETRIEVE, ANSWER, FINAL, "Let's ", f"{CONTEXT}\n", "[1] Title: x", "<answer short>", "<|im_end|>"),
    *(
        "Well, let me see.",
        "\n",
        f"\n{FOLLOW_UP} Which 1?\n",
        f"\n{ANSWER} a hill\n",
        f"\n{FINAL} the moor",
        f"{RETRIEVE}\n",
    ),
)
_noise = st.lists(st.sampled_from(_NOISE) | st.text(max_size=6), min_size=1, max_size=4).map("".join)
_ends = st.sampled_from([GOLD, "the moor", "the moor", "the moor"]).map(
    lambda place: f" <answer long>It is {place}.</answer long><answer short>{place}</answer short>"
)
_asked = st.integers(1, 12).map(" Which {}?\n".format)
_known = st.sampled_from([" a lake\n", " a hill\n", " a mill\nby a brook\n"])


def _then(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


_decided = st.deferred(
    lambda: st.sampled_from(["", f"{RETRIEVE}\n", "Let's "]) | _then(st.just(ANSWER), _known, _goes_on)
)
_goes_on: st.SearchStrategy[str] = st.deferred(
    lambda: st.just("") | _then(st.just(FOLLOW_UP), _asked, _decided) | _then(st.just(FINAL), _ends)
)
_begun = {  # what may follow the marker in which a prompt ends
    "": _then(st.just(FOLLOW_UP), _asked, _decided) | _goes_on,
    FOLLOW_UP: _then(_asked, _decided),
    ANSWER: _then(_known, _goes_on),
    FINAL: _ends,
}


@st.composite
def _replies(draw: st.DrawFn) -> dict[str, Completion]:
    """Return what is written after each marker: mostly in the format, with something else in some place of it."""
    replies = {}
    for marker, legal in _begun.items():
        text = draw(legal)
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, len(text)))
            text = text[:at] + draw(_noise) + draw(st.sampled_from(["", text[at:]]))
        replies[marker] = Completion(
            text=text if draw(st.integers(0, 9)) == 0 else marker + text,
            cut=draw(st.integers(0, 5)) == 0,
            prompt_tokens=draw(st.integers(0, 50)),
            completion_tokens=draw(st.integers(0, 50)),
            p_retrieve=draw(st.dictionaries(st.integers(0, 40), st.floats(0, 1), max_size=3)),
        )
    return replies


class Scribe:
    """Writes in the format and out of it, always the same to the same prompt; for `ScriptedPolicy`."""

    def __init__(self, replies: Sequence[dict[str, Completion]]) -> None:
        self.replies = replies

    def __call__(self, prompt: Prompt) -> Completion:
        key = render(prompt.trajectory, prompt.lead).encode(errors="replace")
        return self.replies[zlib.crc32(key) % len(self.replies)][prompt.opening]

    def __repr__(self) -> str:
        return f"Scribe({self.replies!r})"


def scribes() -> st.SearchStrategy[Scribe]:
    return st.lists(_replies(), min_size=2, max_size=8).map(Scribe)


# --- retrievers ---


class Found(BaseRetriever):
    """Returns, or raises, what a function makes of the query; `asked` lists the queries."""

    answer: Any
    asked: list[str] = []  # noqa: RUF012 - pydantic copies it

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        self.asked.append(query)
        found = self.answer(query)
        if isinstance(found, Exception):
            raise found
        return cast(list[Document], found)
