"""A lock on a folder, which the system takes back when the process that holds it dies."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which has no locks on folders
    fcntl = None  # type: ignore[assignment]

LOCKS = fcntl is not None


def lock_folder(folder: Path, *, wait: bool = False) -> int:
    """Lock a folder for as long as this process lives or until the number given back is closed by `os.close`.

    Raises `BlockingIOError` if another process has it, unless told to `wait`. Where there are no locks, anyone gets in.
    """
    if not LOCKS:
        return os.open(os.devnull, os.O_RDONLY)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock
