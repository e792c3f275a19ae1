"""Locks on folders and files, which the system takes back when the process that holds them dies."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
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
        lock_open(lock, wait=wait)
    except BaseException:
        os.close(lock)
        raise
    return lock


def lock_open(descriptor: int, *, wait: bool = False) -> None:
    """Lock what is open as `descriptor` until that is closed; raises `BlockingIOError` as `lock_folder` does."""
    if LOCKS:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
