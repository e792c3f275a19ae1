"""The embedded index as a folder: `manifest.json`, and beside it the folder of the engine's files that it names.

Replacing an index is replacing its manifest, which is atomic.
"""

import json
import os
from pathlib import Path

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.manifest import Manifest, is_manifest, missing

MANIFEST = "manifest.json"
IDS = "ids"  # among the engine's files: the ids that are there, for a build that appends


def segments_of(folder: Path, build: str) -> Path:
    """Return the folder of the engine's files of a build, in `folder`."""
    return folder / f"segments-{build}"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the index in `folder`; `OperatorError` says why there is none that can be used."""
    if not folder.exists():
        raise OperatorError(missing(str(folder)))
    return Manifest.from_json(_content(folder), str(folder))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder`, all of it or nothing."""
    draft = folder / f"{MANIFEST}.{manifest.build}"
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest.to_json(), indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a machine that loses power may be left with the new name and nothing in it
    draft.replace(folder / MANIFEST)


def is_index(folder: Path) -> bool:
    """Whether `folder` is an index of ours, of whatever version, so that a build may replace it."""
    return is_manifest(_content(folder))


def _content(folder: Path) -> object:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
