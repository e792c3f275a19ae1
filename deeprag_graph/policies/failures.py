"""What went wrong with a model server, as one sentence: the operator's to mend, or a failure of this one call.

The client libraries of the large providers are built alike (`status_code`, `APITimeoutError`, `APIConnectionError`), so
names and attributes are looked at rather than classes: the chat policy must not need any one of them.
"""

from deeprag_graph.errors import (
    DeepRAGError,
    ModelUnavailableError,
    ModelUnreachableError,
    OperatorError,
    PolicyError,
)
from deeprag_graph.transcript import one_line

SAID_CHARS = 300  # of what a server or a client says; it goes to a terminal
START_SERVER = "start one, or correct --base-url"


def explain(
    error: Exception, server: str, model: str = "", *, key: str = "", unreachable: str = START_SERVER
) -> DeepRAGError:
    """Return the error of this package that says in one sentence what a model client's error means.

    Args:
        error: what the client raised.
        server: how to call the server, its address where it is known.
        model: the model that was asked for, where it is known.
        key: the environment variable that the key comes from, where it is known.
        unreachable: what a person does when the server does not answer at all.
    """
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    if isinstance(error, DeepRAGError):
        return error
    if isinstance(status, int):
        return _explain_status(status, _said(error), server, model, key)
    if _never_connected(error):
        return ModelUnreachableError(f"No model server answers at {server}: {unreachable}.")
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return PolicyError(f"The model server at {server} did not answer in time.")
    if "Connection" in name or "Protocol" in name:
        return ModelUnavailableError(f"The connection to the model server at {server} broke: {_cause(error)}.")
    return PolicyError(f"The model server at {server} sent an answer that cannot be read ({name}: {_cause(error)}).")


def _explain_status(status: int, said: str, server: str, model: str, key: str) -> DeepRAGError:
    if status in (401, 403):
        remedy = f"set {key}" if key else "check its API key"
        return OperatorError(f"The model server at {server} refuses the key ({status}): {remedy}.")
    if status == 404:
        wanted = f"no model {model!r}, or no such address" if model else "no such model or address"
        return OperatorError(f"The model server at {server} has {wanted}: {said}")
    if status == 429:
        return PolicyError(f"The model server at {server} turned the call away (429, too many requests): {said}")
    kind = ModelUnavailableError if status in (502, 503, 504) else PolicyError
    return kind(f"The model server at {server} answered {status}: {said}")


def _never_connected(error: BaseException) -> bool:
    """Whether no connection was made at all, as against one that broke."""
    while (cause := error.__cause__ or error.__context__) is not None:
        if type(cause).__name__ in ("ConnectError", "ConnectionRefusedError", "ClientConnectorError", "gaierror"):
            return True
        error = cause
    return False


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(str(error) or type(error).__name__, SAID_CHARS).rstrip(".")


def _said(error: Exception) -> str:
    """Return what the server said, without the client's own preamble."""
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    if str(message or "").lstrip().startswith("<"):
        return "a web page, so it is hardly an OpenAI-compatible server: correct --base-url"
    return one_line(str(message or error), SAID_CHARS)
