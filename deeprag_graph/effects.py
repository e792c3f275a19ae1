"""Carrying out what nodes want done: a model call or a search, sync or async, for whoever drives the nodes."""

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from langchain_core.retrievers import BaseRetriever
from langgraph.errors import GraphBubbleUp
from langgraph.store.base import BaseStore

from deeprag_graph.errors import AwayError, DeepRAGError, OperatorError, PolicyError, RetrievalError
from deeprag_graph.policies.base import Completion, Policy
from deeprag_graph.search import asearch, search
from deeprag_graph.transcript import one_line
from deeprag_graph.turn import Ask, Effects, Found, Search, Turn

Logic = Callable[[Turn], Effects]


Boundary = Literal["policy", "target", "retriever"]


class Patience(Protocol):
    """Decides whether to wait for a server that is away; each boundary has one of its own."""

    def worked(self, boundary: Boundary) -> None:
        """Note that a call has come back with a result."""

    async def wait(self, boundary: Boundary, error: AwayError, attempt: int) -> bool:
        """Wait, then say whether to try again; `attempt` counts from 1. Raises the error where nothing will help."""


class Parts(NamedTuple):
    """What a graph works with.

    Attributes:
        policy: who writes.
        retriever: who finds passages.
        target: who writes the parametric answers, where that is not the policy: the model that is to be trained, while
            a stronger one writes the rest (arXiv 2502.01142, Stage I).
        patience: whether to wait for servers that are away; async runs only.
    """

    policy: Policy
    retriever: BaseRetriever
    target: Policy | None = None
    patience: Patience | None = None


def drive(logic: Logic, turn: Turn, parts: Parts, store: BaseStore | None) -> str:
    """Run a node to its end and return the name of the next one."""
    turn.shared = parts.target is not None
    effects = logic(turn)
    result: Completion | Found | DeepRAGError | None = None
    while True:
        try:
            effect = _advance(effects, result)
        except StopIteration as end:
            return str(end.value)
        try:
            result = _carry_out(effect, parts, store)
        except Exception as error:
            result = _as_data(error, effect)


async def adrive(logic: Logic, turn: Turn, parts: Parts, store: BaseStore | None) -> str:
    """Run a node to its end without blocking the event loop; with patience, wait for servers that are away."""
    turn.shared = parts.target is not None
    effects = logic(turn)
    result: Completion | Found | DeepRAGError | None = None
    while True:
        try:
            effect = _advance(effects, result)
        except StopIteration as end:
            return str(end.value)
        if parts.patience is None:
            result = await _attempt(effect, parts, store)
        else:
            result = await _persist(effect, turn, parts, parts.patience, store)


async def _persist(
    effect: Ask | Search, turn: Turn, parts: Parts, patience: Patience, store: BaseStore | None
) -> Completion | Found | DeepRAGError:
    boundary = _boundary(effect, parts)
    attempt = 1
    while True:
        try:
            result = await _attempt(effect, parts, store)
        except AwayError as error:  # an operator's, too: the server may be on its way back
            result = error
        if not isinstance(result, DeepRAGError):
            patience.worked(boundary)
        if not isinstance(result, AwayError):
            return result
        with turn.resting():
            again = await patience.wait(boundary, result, attempt)
        if not again:
            return result
        attempt += 1


async def _attempt(effect: Ask | Search, parts: Parts, store: BaseStore | None) -> Completion | Found | DeepRAGError:
    try:
        async with asyncio.timeout(_timeout(effect)):
            return await _acarry_out(effect, parts, store)
    except Exception as error:
        return _as_data(error, effect)


def _carry_out(effect: Ask | Search, parts: Parts, store: BaseStore | None) -> Completion | Found:
    if isinstance(effect, Ask):
        return _writer(effect, parts).complete(effect.prompt)
    return search(parts.retriever, effect.query, effect.k or parts.policy.passages, store)


async def _acarry_out(effect: Ask | Search, parts: Parts, store: BaseStore | None) -> Completion | Found:
    if isinstance(effect, Ask):
        return await _writer(effect, parts).acomplete(effect.prompt)
    return await asearch(parts.retriever, effect.query, effect.k or parts.policy.passages, store)


def _writer(effect: Ask, parts: Parts) -> Policy:
    return parts.target if effect.target and parts.target is not None else parts.policy


def _boundary(effect: Ask | Search, parts: Parts) -> Boundary:
    if isinstance(effect, Search):
        return "retriever"
    return "target" if effect.target and parts.target is not None else "policy"


def _advance(effects: Effects, result: Completion | Found | DeepRAGError | None) -> Ask | Search:
    return effects.throw(result) if isinstance(result, DeepRAGError) else effects.send(result)


def _as_data(error: Exception, effect: Ask | Search) -> DeepRAGError:
    """Turn what a policy or a retriever has raised into a failure that the episode records, unless it must not be."""
    if isinstance(error, (OperatorError, GraphBubbleUp)):
        raise error  # for the operator to mend, or an interrupt for a person to answer
    if isinstance(error, DeepRAGError):
        return error
    who, kind = ("model", PolicyError) if isinstance(effect, Ask) else ("retriever", RetrievalError)
    if isinstance(error, TimeoutError) and not str(error):  # ours: asyncio's has no text
        return kind(f"The {who} did not answer within {_timeout(effect):.0f} s.")
    return kind(one_line(f"{type(error).__name__}: {error}", 300))


def _timeout(effect: Ask | Search) -> float | None:
    return effect.prompt.timeout if isinstance(effect, Ask) else effect.timeout
