"""The retrievers of others that docs/retrieval.md shows: its Python runs as printed, on a real server."""

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from deeprag_graph.transcript import FINAL

GUIDE = (Path(__file__).parents[3] / "docs" / "retrieval.md").read_text(encoding="utf-8")
REPLIES = [
    "Follow up: Where is Skagen?\nLet's search the question in Wikipedia.",
    "Intermediate answer: Jutland\n"
    f"{FINAL} <answer long>It is in Jutland.</answer long><answer short>Jutland</answer short>",
]


@pytest.fixture
def indices_of_the_guide(client: Elasticsearch) -> Iterator[None]:
    yield
    client.indices.delete(index="my-vectors,my-hybrid", ignore_unavailable=True)


@pytest.mark.usefixtures("indices_of_the_guide")
def test_dense_hybrid_and_combined_retrievers_bring_passages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = DeterministicFakeEmbedding(size=64)
    monkeypatch.setattr("langchain.embeddings.init_embeddings", lambda _: embeddings)
    model = GenericFakeChatModel(messages=cycle(map(AIMessage, REPLIES)))
    names: dict[str, Any] = {"ELASTICSEARCH": url, "model": model}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "retrieval.md", "exec"), names)
        output = names["graph"].invoke({"question": "Where is Skagen?"})
        assert output["answer"] == "Jutland"
        assert "Skagen" in [passage["title"] for passage in output["passages"]]
