"""A real Elasticsearch: DEEPRAG_ELASTICSEARCH_URL, or one that is started here, once for all tests."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from elasticsearch import Elasticsearch

from deeprag_graph.retrieval import Manifest, build_index
from tests.retrieval.conftest import CORPUS
from tests.retrieval.elasticsearch.passages import write
from tests.retrieval.elasticsearch.proxy import Proxy
from tests.retrieval.elasticsearch.server import Node, start_script

FOLDER = Path(__file__).parent
CREDENTIALS = ("API_KEY", "USERNAME", "PASSWORD", "CA_FILE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.elasticsearch)


def _without(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and under CI these tests must run")
    pytest.skip(what)


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(f"ELASTICSEARCH_{name}", raising=False)


@pytest.fixture(scope="session")
def script() -> Path:
    """The script that starts a node, for tests that stop it."""
    return start_script() or _without("needs DEEPRAG_ELASTICSEARCH_START, a script that starts Elasticsearch")


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that all tests share."""
    if given := os.environ.get("DEEPRAG_ELASTICSEARCH_URL"):
        yield given.rstrip("/")
    elif found := start_script():
        with Node(found, tmp_path_factory.mktemp("elasticsearch") / "data") as node:
            yield node.url
    else:
        _without("needs Elasticsearch: DEEPRAG_ELASTICSEARCH_URL, or a script that starts one")


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[Elasticsearch]:
    """A plain client of that server."""
    with Elasticsearch(url) as client:
        yield client


@contextmanager
def new_name(client: Elasticsearch) -> Iterator[str]:
    """Give a name for an index that nothing else has, and remove what is there in the end."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    for physical in client.indices.get(index=f"{name}*").body:
        client.indices.delete(index=physical)


@pytest.fixture
def name(client: Elasticsearch) -> Iterator[str]:
    """A name for an index of the test's own."""
    with new_name(client) as name:
        yield name


@pytest.fixture
def address(url: str, name: str) -> str:
    return f"{url}/{name}"


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


Build = Callable[..., Manifest]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds an index of passages given as (id, title, text)."""

    def build(address: str, passages: Sequence[tuple[str, str, str]], **settings: Any) -> Manifest:
        file = tmp_path / f"{uuid.uuid4().hex}.jsonl"
        write(file, passages)
        return build_index([file], address, **settings)

    return build


@pytest.fixture(scope="module")
def shared(url: str, client: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an index of the tests' small corpus, for tests that leave it as it is."""
    file = tmp_path_factory.mktemp("shared") / "corpus.tsv"
    file.write_text(CORPUS, encoding="utf-8")
    with new_name(client) as name:
        build_index([file], f"{url}/{name}")
        yield name
