"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from deeprag_graph.errors import OperatorError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `path` once it is whole, and vanishes if anything goes wrong.

    Raises `OperatorError` where it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # else a machine that loses power may be left with the name and nothing in it
            draft.replace(path)
        finally:
            if draft.is_file():
                draft.unlink()
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error
