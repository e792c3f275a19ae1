"""What Elasticsearch and its client raise, as one sentence for a person."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elasticsearch import ApiError, NotFoundError, TransportError, UnsupportedProductError
from elasticsearch.exceptions import ConnectionTimeout, SerializationError, SSLError

from deeprag_graph.errors import OperatorError, RetrievalError, SearchUnavailableError
from deeprag_graph.retrieval.elasticsearch.address import CREDENTIALS, Address
from deeprag_graph.retrieval.elasticsearch.client import PartialAnswerError

_SHOWN = 200  # characters of what a server says
_CONNECTION = re.compile(r"^.{0,30}HTTPS?Connection.*?[)>]: ")  # the object that failed, named before the reason


@contextmanager
def failures(address: Address, kind: type[OperatorError | RetrievalError]) -> Iterator[None]:
    """Raise what fails inside as a `kind` with a sentence; no sentence holds credentials."""
    try:
        yield
    except (ApiError, TransportError, PartialAnswerError) as error:
        away = kind is RetrievalError and _may_come_back(error)
        raise (SearchUnavailableError if away else kind)(_sentence(error, address)) from error


def _may_come_back(error: Exception) -> bool:
    """Whether nothing answers, or something that is not ready, as against a server that has said no."""
    if isinstance(error, ApiError):
        return error.meta.status in (429, 502, 503, 504)
    return not isinstance(error, (UnsupportedProductError, SerializationError, SSLError))


def cause(error: ApiError) -> tuple[str, str]:
    """Return the type and the reason of an error as the server names them, or "" where it does not."""
    found: Any = error.body.get("error") if isinstance(error.body, dict) else None
    if not isinstance(found, dict):
        return "", ""
    roots = found.get("root_cause")
    root = roots[0] if isinstance(roots, list) and roots and isinstance(roots[0], dict) else found
    return str(root.get("type", "")), str(root.get("reason", ""))


def _sentence(error: Exception, address: Address) -> str:
    server = f"Elasticsearch at {address.url}"
    match error:
        case PartialAnswerError():
            said = f"{server} could not search the whole of {address.name} ({error}), and a part is not taken for it"
        case UnsupportedProductError() | SerializationError():
            said = f"What answers at {address.url} is not Elasticsearch; correct the address"
        case NotFoundError() if cause(error) == ("", ""):
            said = f"What answers at {address.url} is not Elasticsearch; correct the address"
        case ApiError():
            said = f"{server} {_answered(error, address)}"
        case SSLError():
            said = (
                f"There is no secure connection to {address.url} ({_short(error.message)}); set ELASTICSEARCH_CA_FILE "
                "to the certificate of the authority that signed the server's, or write http:// if it has none"
            )
        case ConnectionTimeout():
            said = f"{server} takes too long to answer; look into its log, or try again"
        case _:
            reason = _short(_CONNECTION.sub("", str(getattr(error, "message", error))))
            said = f"There is no Elasticsearch at {address.url} ({reason}); start it, or correct the address"
    return f"{said}."


def _answered(error: ApiError, address: Address) -> str:
    kind, reason = cause(error)
    status, said = error.meta.status, _short(": ".join(filter(None, (kind, reason))) or "without a reason")
    match status, kind:
        case 401, _:
            end = f"does not accept these credentials, or wants some; set {CREDENTIALS}"
        case _, "cluster_block_exception":
            end = f"is closed for writing, mostly since its disk is full ({said}); free some space and try again"
        case 403, _:
            end = f"does not allow this with these credentials ({said}); set {CREDENTIALS}"
        case 404, "index_not_found_exception":
            end = f"has no index {address.name}; build it with: deeprag index FILE --out {address}"
        case (400 | 406, "media_type_header_exception"):
            end = f"is of a version that is not supported; versions 8 and 9 are ({said})"
        case 400, "illegal_argument_exception":
            end = f"refuses a request: {_short(reason).rstrip('.')}"
        case (429 | 502 | 503 | 504, _):
            end = f"is overloaded or not ready (status {status}, {said}); try again later"
        case _:
            end = f"refuses a request (status {status}, {said}); look whether this is the address of its index"
    return end


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
