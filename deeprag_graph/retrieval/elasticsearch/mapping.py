"""The settings and the mapping of an index, what changes when it is whole, and whether one that is there is ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.elasticsearch.address import Address
from deeprag_graph.retrieval.manifest import FORMAT, Manifest

Index = Mapping[str, Any]  # as the server describes it

MOST_HITS = 10_000  # of one search: the server's own limit, which an index may change and ours does not

# The score needs how often a term occurs, and no positions: half of the size.
_FIELD = {"type": "text", "analyzer": "english", "index_options": "freqs"}
PROPERTIES: Mapping[str, Any] = {"title": _FIELD, "text": _FIELD, "ordinal": {"type": "long"}}
_SIMILARITY = {"default": {"type": "BM25", "k1": "1.2", "b": "0.75"}}

# While it grows nobody searches in it, and a copy would index all of it a second time. `write` is for a clone, which is
# made of an index that takes no writes.
GROWING = {"refresh_interval": "-1", "number_of_replicas": 0, "auto_expand_replicas": "false", "blocks.write": None}
# A published index never changes; the copy on a second node, where there is one, keeps it whole without the first.
PUBLISHED = {"refresh_interval": None, "auto_expand_replicas": "0-1", "blocks.write": True}


def new_settings(shards: int) -> dict[str, Any]:
    """Return the settings of an index that is about to grow."""
    return {**GROWING, "number_of_shards": shards, "similarity": _SIMILARITY}


def new_mappings(beat: int) -> dict[str, Any]:
    """Return the mapping of an index that is about to grow."""
    return {"dynamic": "strict", "_meta": growing_meta(beat), "properties": PROPERTIES}


def growing_meta(beat: int) -> dict[str, Any]:
    """Return what an index says of itself while it grows: whose it is, and when (s) its build last lived."""
    return {"manifest": {"format": FORMAT}, "beat": beat}


def published_meta(manifest: Manifest, beat: int) -> dict[str, Any]:
    """Return what an index says of itself once it is whole; its build lives until it has the name."""
    return {"manifest": manifest.to_json(), "beat": beat}


def manifest_in(index: Mapping[str, Any]) -> object:
    """Return what stands in an index, as the server describes it, where ours have their manifest."""
    return index["mappings"].get("_meta", {}).get("manifest")


def check_mapping(index: Mapping[str, Any], address: Address) -> None:
    """Raise `OperatorError` with the first difference if an index does not have the mapping that builds give it."""
    found = {
        "dynamic": index["mappings"].get("dynamic"),
        "properties": index["mappings"].get("properties", {}),
        "similarity": index["settings"]["index"].get("similarity"),
    }
    expected = {"dynamic": "strict", "properties": PROPERTIES, "similarity": _SIMILARITY}
    for path, is_there, should_be in _differences(found, expected, ""):
        raise OperatorError(
            f"The index {address} does not have the mapping of an index of passages ({path} is {is_there!r} and not "
            f"{should_be!r}); build it again with: deeprag index FILE --out {address}"
        )


def _differences(found: Any, expected: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in sorted({*found, *expected}):
            yield from _differences(found.get(name), expected.get(name), f"{path}.{name}" if path else name)
    elif found != expected:
        yield path, found, expected
