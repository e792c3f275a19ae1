"""From names to parts: the policy and the retriever that a command line or a configuration panel asks for."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.errors import ModelUnreachableError, OperatorError
from deeprag_graph.policies.base import COMPLETION_TOKENS, Policy
from deeprag_graph.policies.chat import ChatPolicy
from deeprag_graph.policies.pool import PooledPolicy
from deeprag_graph.retrieval import BM25Retriever, is_address, starter_index
from deeprag_graph.retrieval.engine import require_elasticsearch
from deeprag_graph.transcript import STOP

PolicyKind = Literal["local", "chat", "completion"]


class ModelChoice(NamedTuple):
    """The model that somebody asks for, in words that travel to other processes; see `make_policy`.

    More than one of `addresses` are servers of the same model, to share the questions among.
    """

    kind: PolicyKind | None = None
    model: str | None = None
    addresses: tuple[str, ...] = ()

    def open(self, *, parallel: int = 1) -> Policy:
        """Return the policy; raises as `make_policy` does."""
        if len(self.addresses) < 2:
            return make_policy(self.kind, self.model, next(iter(self.addresses), None), parallel=parallel)
        model = self.model or _served_model(self.addresses)
        return PooledPolicy([make_policy(self.kind, model, address, parallel=parallel) for address in self.addresses])

    @property
    def is_local(self) -> bool:
        """Whether the model runs on this machine, in a process of the policy's own."""
        return self.kind == "local" or (
            self.kind is None and not self.addresses and not (self.model and _of_a_provider(self.model))
        )


CHAT_SECONDS = 120.0  # for a call of a chat model; an async run's budget may end it sooner


def make_policy(
    kind: PolicyKind | None = None,
    model: str | None = None,
    base_url: str | None = None,
    *,
    parallel: int = 1,
    progress: bool = True,
) -> Policy:
    """Return the policy that these settings name.

    Args:
        kind: `local` (a small model in a process of its own), `chat` (any chat model) or `completion` (a model tuned on
            the transcript). By default `chat` once a server or a model of a provider is named, otherwise `local`.
        model: a local model's name or GGUF file, or the name that a server or provider knows.
        base_url: an OpenAI-compatible server, with `/v1`; the key comes from `OPENAI_API_KEY`.
        parallel: questions that the local model answers at a time.
        progress: show how far a download has come.

    Raises:
        OperatorError: the settings do not fit together, or an extra is not installed.
    """
    _check_address(base_url)
    kind = kind or ("chat" if base_url or (model and _of_a_provider(model)) else "local")
    if kind == "local":
        if base_url:
            raise OperatorError("The local policy has its own server: leave --base-url out, or use --policy chat.")
        _require("xllamacpp", '"deeprag-graph[local]"')
        _require("langchain_openai", '"deeprag-graph[local]"')
        from deeprag_graph.policies.local import LocalPolicy  # noqa: PLC0415 - an extra

        return LocalPolicy(model, parallel=parallel, progress=progress)
    if kind == "completion":
        if not base_url:
            raise OperatorError("The completion policy needs a server: give --base-url http://HOST:PORT/v1.")
        _require("langchain_openai", '"deeprag-graph[openai]"')
        from deeprag_graph.policies.completion import CompletionPolicy  # noqa: PLC0415 - an extra

        return CompletionPolicy(model, base_url)
    # a server of one's own takes stop strings; some models of the providers refuse them
    return ChatPolicy(_chat_model(model, base_url), stop=STOP if base_url else None)


def make_retriever(index: str | None = None, *, parallel: int = 10) -> BaseRetriever:
    """Return the retriever over the index in a folder, at `http(s)://HOST:PORT/NAME`, or over the starter corpus.

    Args:
        index: the folder, or the address of an index on an Elasticsearch server (credentials from the environment).
        parallel: searches at a time, each of which gets a connection to a server of its own.

    Raises:
        OperatorError: there is no index of ours there.
    """
    if index is None:
        return BM25Retriever(starter_index())
    if is_address(index):
        require_elasticsearch()
        from deeprag_graph.retrieval.elasticsearch import (  # noqa: PLC0415 - an extra
            ElasticsearchBM25Retriever,
            ElasticsearchIndex,
        )

        return ElasticsearchBM25Retriever(ElasticsearchIndex.open(index, connections=parallel))
    return BM25Retriever(index)


def _check_address(base_url: str | None) -> None:
    try:
        url = urlsplit(base_url or "http://unset")
        if url.username or url.password:
            raise OperatorError(f"Leave credentials out of --base-url ({url.hostname}): the key is OPENAI_API_KEY.")
        fine = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except OperatorError:
        raise
    except ValueError:  # a port that is no number
        fine = False
    if not fine:
        raise OperatorError(f"{base_url!r} is not the address of a server: give --base-url http://HOST:PORT/v1.")


def _of_a_provider(model: str) -> bool:
    """Whether a model's name is neither a local model's nor a file's."""
    from deeprag_graph.policies.weights import MODELS  # noqa: PLC0415 - only the command line needs it

    return model not in MODELS and not model.endswith(".gguf") and not Path(model).exists()


def _chat_model(model: str | None, base_url: str | None) -> BaseChatModel:
    if model is None and base_url is None:
        raise OperatorError(
            "The chat policy needs a model: give --model NAME, and --base-url URL for a server of yours."
        )
    if model and ":" in model and base_url is None:
        _require("langchain", f"langchain langchain-{model.split(':')[0]}")
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - an extra

        try:
            return init_chat_model(model)
        except (ImportError, ValueError) as error:
            raise OperatorError(f"The chat model {model} cannot be made: {str(error).splitlines()[0]}") from error
    _require("langchain_openai", '"deeprag-graph[openai]"')
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - an extra

    key = os.environ.get("OPENAI_API_KEY")
    if not key and base_url is None:
        raise OperatorError(
            f"The model {model} needs a key: set OPENAI_API_KEY, or give --base-url of a server of yours."
        )
    name = model or _first_model(base_url or "", key or "none")
    return ChatOpenAI(
        model=name,
        base_url=base_url,
        api_key=lambda: key or "none",
        temperature=0.0,
        max_completion_tokens=COMPLETION_TOKENS,
        timeout=CHAT_SECONDS,
        logprobs=True,
        top_logprobs=5,
    )


def _served_model(addresses: Sequence[str]) -> str:
    """Return the model of the first server that answers: one of several may be away."""
    away: ModelUnreachableError | None = None
    for address in addresses:
        _check_address(address)
        try:
            return _first_model(address, os.environ.get("OPENAI_API_KEY") or "none")
        except ModelUnreachableError as error:
            away = error
    assert away is not None
    raise away


def _first_model(base_url: str, key: str) -> str:
    from deeprag_graph.policies.completion import CompletionPolicy  # noqa: PLC0415 - an extra

    return CompletionPolicy(None, base_url, key).model


def _require(module: str, packages: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise OperatorError(f"{module} is not installed: pip install {packages}.")
