"""Which physical index stands behind a name: builds make a new one each and move the name, an alias, onto it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import NotFoundError

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.elasticsearch.address import Address
from deeprag_graph.retrieval.elasticsearch.mapping import check_mapping, manifest_in
from deeprag_graph.retrieval.manifest import Manifest, is_manifest, missing


@dataclass(frozen=True, slots=True)
class Published:
    """The physical index behind a name and how the server describes it."""

    physical: str
    index: Mapping[str, Any]

    def manifest(self, address: Address) -> Manifest:
        """Return the manifest of an index that can be searched; raises `OperatorError` for any other."""
        manifest = Manifest.from_json(manifest_in(self.index), str(address))
        check_mapping(self.index, address)
        return manifest

    def check_replaceable(self, address: Address) -> None:
        """Raise `OperatorError` unless a build may take the place of this."""
        if self.physical == address.name or not is_manifest(manifest_in(self.index)):
            raise OperatorError(f"{address} is there already and is no index of passages; name another for the index.")


def published(found: Mapping[str, Any], address: Address) -> Published:
    """Return what the server found under the name; raises `OperatorError` if that is more than one index."""
    if len(found) != 1:
        raise OperatorError(f"{address} is an alias of several indices; name one of passages.")
    return Published(*next(iter(found.items())))


def find_published(client: Any, address: Address) -> Published | None:
    """Return what stands behind the name, if anything does; `client` is a synchronous one."""
    try:
        return published(client.indices.get(index=address.name).body, address)
    except NotFoundError:
        return None


def get_published(client: Any, address: Address) -> Published:
    """Return what stands behind the name; raises `OperatorError` if nothing does."""
    if (found := find_published(client, address)) is None:
        raise OperatorError(missing(str(address)))
    return found
