"""Download one large file over HTTP: what has come is kept when it breaks off, and the next try goes on from there."""

import json
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tqdm import tqdm

from deeprag_graph.errors import OperatorError

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as broken
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before another try; one that got further begins with the first again


def download(url: str, path: Path, *, otherwise: str) -> None:
    """Put the file at `url` at `path`, whole as far as its length tells, or not at all; a bar shows it on stderr.

    What has come is kept beside `path` (NAME.partial and NAME.partial.json) however the download ends, and the next one
    goes on from there, if the server can send a part and says by ETag or date that it still has the same file; else it
    begins anew. A failure that may pass is tried again, after growing pauses. One process at a time for one `path`.

    Raises `OperatorError` if the file cannot be had, which ends in what to do `otherwise`, or cannot be stored.
    """
    try:
        with _Partial(url, path) as partial:
            try:
                _complete(partial, otherwise)
            except KeyboardInterrupt:
                _say(f"{path.name}: {partial.outlook}.")
                raise
        partial.publish(path)
    except OSError as error:  # those of the network are none
        raise OperatorError(
            f"{path} cannot be stored ({error.strerror or error}); the same command goes on once that is mended."
        ) from error


class _Broken(Exception):
    """A try that ended early, for a reason that may pass; the text is the reason."""


class _Changed(_Broken):
    """The server has not, or no longer, the file that a part has come of."""


class _Refused(Exception):
    """An answer that will be the same next time; the text is the reason."""


@dataclass(frozen=True, slots=True)
class _Version:
    """A file as a server has it at one time: `tag` is a strong ETag, or else the date of its last change, or empty."""

    url: str
    tag: str
    bytes: int


class _Partial:
    """What has come of a file, and of which version of it; a context manager."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path.with_name(f"{path.name}.partial")
        self._record = path.with_name(f"{path.name}.partial.json")
        self.version = self._recorded()
        self._file = self.path.open("ab")

    def _recorded(self) -> _Version | None:
        try:
            version = _Version(**json.loads(self._record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == self.url else None

    @property
    def held(self) -> int:
        """How many bytes there are."""
        return self._file.tell()

    @property
    def whole(self) -> bool:
        return self.version is not None and self.held == self.version.bytes

    @property
    def resumable(self) -> bool:
        return self.version is not None and bool(self.version.tag) and 0 < self.held < self.version.bytes

    @property
    def outlook(self) -> str:
        """What the same command will do when it is run again."""
        if self.version and (self.resumable or self.whole):
            return f"{_size(self.held)} of {_size(self.version.bytes)} are kept and the same command goes on from there"
        return "run the same command again later"

    def begin(self, version: _Version) -> None:
        """Drop what there is; from now on the bytes are those of `version`."""
        if self.held:
            _say(f"{self.url} is sent from its beginning again")
        self.drop()
        self.version = version
        self._record.write_text(json.dumps(asdict(version)) + "\n", encoding="utf-8")

    def drop(self) -> None:
        self._file.truncate(0)
        self._file.seek(0)
        self.version = None

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def publish(self, path: Path) -> None:
        """Move the whole file to its place."""
        self.path.replace(path)
        self._record.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        nothing = not self.held and not self.whole
        self._file.close()
        if nothing:
            self.path.unlink()
            self._record.unlink(missing_ok=True)


def _complete(partial: _Partial, otherwise: str) -> None:
    """Try until the file is whole; the tries are counted from the last one that got further than all before."""
    furthest, failed = partial.held, 0
    with _client() as client:
        while not partial.whole:
            try:
                _try(client, partial)
            except _Refused as error:
                raise OperatorError(f"{partial.url} could not be fetched ({error}): {otherwise}.") from error
            except (httpx.RequestError, _Broken) as error:
                reason = (str(error) or type(error).__name__).rstrip(".")
                failed = 0 if partial.held > furthest else failed
                furthest = max(furthest, partial.held)
                if isinstance(error, _Changed):
                    partial.drop()
                if failed == len(PAUSES):
                    raise OperatorError(
                        f"{partial.url} could not be fetched ({reason}): {partial.outlook}, or {otherwise}."
                    ) from error
                _say(f"{partial.url}: {reason}; trying again in {PAUSES[failed]:g} s")
                time.sleep(PAUSES[failed])
                failed += 1


def _client() -> httpx.Client:
    try:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True)
    except (ImportError, ValueError) as error:  # it reads the proxy from the environment
        raise OperatorError(
            f"The proxy of the environment cannot be used ({error}): correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY."
        ) from error
    except OSError as error:  # and the certificates
        raise OperatorError(
            f"The certificates of the environment cannot be used ({error}): correct SSL_CERT_FILE or SSL_CERT_DIR."
        ) from error


def _try(client: httpx.Client, partial: _Partial) -> None:
    """Ask once for what is missing, and store what comes of it."""
    headers = {"Accept-Encoding": "identity"}
    if partial.version and partial.resumable:
        headers |= {"Range": f"bytes={partial.held}-", "If-Range": partial.version.tag}
    with client.stream("GET", partial.url, headers=headers) as response:
        start, version = _offered(response, partial)
        if start == 0:
            partial.begin(version)
        elif (start, version) != (partial.held, partial.version):
            raise _Changed("it is another file now than the one that a part has come of")
        _require_space(partial.path.parent, version.bytes - start)
        with _bar(partial, version) as bar:
            for chunk in response.iter_raw():
                partial.write(chunk)
                bar.update(len(chunk))
    if not partial.whole:
        raise _Broken("the server sent a part of it")


def _offered(response: httpx.Response, partial: _Partial) -> tuple[int, _Version]:
    """Return the byte that the answer begins with, and the version that it is of."""
    status = f"{response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code == 416:  # it is shorter now
        raise _Changed(status)
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise _Broken(status)
    etag = response.headers.get("etag", "")
    tag = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
    if response.status_code == 206:
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("content-range", ""))
        if part is None:
            raise _Changed("206 without a Content-Range")
        # The answer to If-Range need not repeat the date.
        tag = tag or (partial.version.tag if partial.version else "")
        return int(part[1]), _Version(partial.url, tag, int(part[2]))
    if response.status_code != 200:
        raise _Refused(status)
    length = response.headers.get("content-length", "")
    if not length.isdecimal():
        raise _Refused("the server does not say how long it is")
    return 0, _Version(partial.url, tag, int(length))


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OperatorError(
            f"{_size(needed)} are to be fetched and {_size(free)} are free in {folder}: "
            "free some space there, or choose another folder."
        )


def _bar(partial: _Partial, version: _Version) -> "tqdm[Any]":
    return tqdm(
        desc=partial.path.stem,
        initial=partial.held,
        total=version.bytes,
        unit="B",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 10.0,  # without a terminal each refresh is a line of a log file
        file=sys.stderr,
    )


def _size(count: int) -> str:
    return f"{tqdm.format_sizeof(count)}B"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
