"""Where an index of Elasticsearch is, and what its server wants to see before it lets anyone in."""

import os
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from deeprag_graph.errors import OperatorError

CREDENTIALS = "ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")  # Elasticsearch allows a little more, and 55 bytes are for the build


@dataclass(frozen=True, slots=True)
class Address:
    """An index: the server's `url` (scheme, host and port) and the index's `name` there."""

    url: str
    name: str

    @classmethod
    def parse(cls, address: str) -> Self:
        """Read `http(s)://HOST:PORT/NAME`; raises `OperatorError` for anything else, without repeating a password."""
        if "@" in address:  # a password may hold what makes a URL unreadable, so it is not looked for in parts of one
            raise OperatorError(f"An address must not hold credentials, which end in logs: set {CREDENTIALS} instead.")
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        name = parts.path.strip("/")
        if parts.scheme not in ("http", "https") or not host or not port or parts.query or parts.fragment:
            raise OperatorError(f"{address} is not an address; write http(s)://HOST:PORT/NAME, {_EXAMPLE}.")
        if not name:
            raise OperatorError(f"{address} lacks the name of an index; write http(s)://HOST:PORT/NAME, {_EXAMPLE}.")
        if not _NAME.fullmatch(name):
            raise OperatorError(
                f"An index of Elasticsearch cannot be named {name!r}: take lower-case letters, digits and . _ - "
                "(a letter or digit first), at most 200."
            )
        return cls(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}", name)

    def __str__(self) -> str:
        return f"{self.url}/{self.name}"


_EXAMPLE = "for example http://localhost:9200/passages"


def access() -> dict[str, Any]:
    """Return the client's settings for credentials and certificates, as the environment has them.

    Raises `OperatorError`, which never repeats them, for half of a pair, a key that cannot be one, or a missing file.
    """
    key, user, password = (os.environ.get(f"ELASTICSEARCH_{name}", "") for name in ("API_KEY", "USERNAME", "PASSWORD"))
    settings: dict[str, Any] = {}
    if key := key.strip():
        # What is no header would be quoted in full by whatever refuses it.
        if not key.isascii() or not key.isprintable():
            raise OperatorError("ELASTICSEARCH_API_KEY holds characters that no key has; copy the key again.")
        settings["api_key"] = key
    elif user and password:
        settings["basic_auth"] = b64encode(f"{user}:{password}".encode()).decode()  # the client knows ASCII alone
    elif user or password:
        raise OperatorError("Set both ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or neither.")
    if authority := os.environ.get("ELASTICSEARCH_CA_FILE"):
        if not Path(authority).is_file():
            raise OperatorError(f"ELASTICSEARCH_CA_FILE names {authority}, and there is no such file.")
        settings["ca_certs"] = authority
    return settings
