"""The settings of a search or of a ledger, as a section of its page."""

from collections.abc import Iterator, Mapping
from typing import Any

from deeprag_graph.pages.markup import Html, element, quoted


def settings(found: Mapping[str, Any]) -> Iterator[Html]:
    """Yield the section's content; settings within others stand under their full names."""
    yield element("h2", "Settings", id="settings")
    rows = (element("div", quoted(name, "dt"), quoted(value, "dd")) for name, value in sorted(_flat(found, "").items()))
    yield element("dl", rows, class_="settings") if found else element("p", "None were kept.")


def _flat(found: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in found.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)}
    return flat
