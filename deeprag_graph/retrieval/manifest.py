"""The manifest of an index: what it holds and how it was made, in the words that both engines keep with their data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeGuard

from pydantic import TypeAdapter, ValidationError

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.analysis import SETTINGS
from deeprag_graph.retrieval.corpus import Source

FORMAT = "deeprag-bm25"
SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index says of itself.

    `build` tells this build from any other. `passages` are searchable; `offered` counts those that builds have handed
    to the engine, so that the next one gets an ordinal of its own; `skipped` counts the lines that gave no passage, by
    reason. `seconds` is what the builds took, `created` the end of the last (ISO 8601, UTC). `files` are the sizes in
    bytes of the embedded engine's files.
    """

    build: str
    passages: int
    offered: int
    skipped: dict[str, int]
    sources: Sequence[Source]
    seconds: float
    created: str
    engine: str
    engine_version: str
    files: dict[str, int] = field(default_factory=dict)
    format: str = FORMAT
    schema_version: int = SCHEMA_VERSION
    analysis: dict[str, Any] = field(default_factory=lambda: SETTINGS)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: object, place: str) -> Self:
        """Return the manifest that `content`, found at `place`, holds.

        Raises `OperatorError` for what is no manifest, is of another version or of another analysis, or is damaged.
        """
        if not is_manifest(content):
            raise OperatorError(f"{place} is not an index of passages; build one elsewhere with: {_build('PLACE')}")
        if (version := content.get("schema_version")) != SCHEMA_VERSION:
            raise OperatorError(
                f"The index {place} has version {version} and this release reads version {SCHEMA_VERSION}; "
                f"build it again with: {_build(place)}"
            )
        if content.get("analysis", SETTINGS) != SETTINGS:
            raise OperatorError(
                f"The index {place} was built with another analysis of text than this release has; "
                f"build it again with: {_build(place)}"
            )
        try:
            return TypeAdapter(cls).validate_python(dict(content))
        except ValidationError:
            raise OperatorError(damaged(place)) from None


def is_manifest(content: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is the manifest of an index of ours, of whatever version, so that a build may replace it."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def missing(place: str) -> str:
    """The sentence for a place without an index."""
    return f"There is no index at {place}; build one with: {_build(place)}"


def damaged(place: str) -> str:
    """The sentence for an index that is ours and cannot be used."""
    return f"The index {place} is damaged; build it again with: {_build(place)}"


def _build(place: str) -> str:
    return f"deeprag index FILE --out {place}"
