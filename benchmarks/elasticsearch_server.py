"""What benchmarks ask an Elasticsearch server beside searches: how large an index is, a text's terms, to delete it.

An address is http(s)://HOST:PORT/NAME; credentials are the library's, from the environment.
"""

from typing import Any

from elasticsearch import Elasticsearch, NotFoundError

from deeprag_graph.retrieval.elasticsearch.address import Address, access


class ServerIndex:
    """An index at an address; it need not be there."""

    def __init__(self, address: str) -> None:
        parsed = Address.parse(address)
        self._client = Elasticsearch(parsed.url, request_timeout=60, **access())
        self._name = parsed.name

    def bytes(self) -> int:
        """Return what the index takes on disk, 0 if there is none."""
        return int(self._stats().get("_all", {}).get("primaries", {}).get("store", {}).get("size_in_bytes", 0))

    def terms(self, text: str) -> list[str]:
        """Return the terms of the server's own `english` analyzer."""
        return [token["token"] for token in self._client.indices.analyze(analyzer="english", text=text)["tokens"]]

    def delete(self) -> None:
        """Delete what stands behind the name, if anything does."""
        for index in self._stats().get("indices", {}):  # the name is an alias
            self._client.indices.delete(index=index)

    def close(self) -> None:
        self._client.close()

    def _stats(self) -> dict[str, Any]:
        try:
            return dict(self._client.indices.stats(index=self._name, metric="store").body)
        except NotFoundError:
            return {}
