"""What a model client's error means, for clients of any provider: whose it is to mend, in one sentence."""

import pytest

from deeprag_graph.errors import (
    DeepRAGError,
    ModelUnavailableError,
    ModelUnreachableError,
    OperatorError,
    PolicyError,
    RetrievalError,
)
from deeprag_graph.policies.failures import explain

SERVER = "http://somewhere/v1"


class StatusError(Exception):
    """Looks like the status error of any provider's client."""

    def __init__(self, status_code: int, body: object = None) -> None:
        super().__init__(f"Error code: {status_code} - and much more")
        self.status_code, self.body = status_code, body


class APITimeoutError(Exception):
    """As openai and anthropic name it."""


class APIConnectionError(Exception):
    """As openai and anthropic name it."""


class ConnectError(Exception):
    """As httpx names it."""


class RemoteProtocolError(Exception):
    """As httpx names it."""


def caused(error: Exception, *causes: Exception) -> Exception:
    """Chain exceptions as `raise … from` does."""
    for effect, cause in zip((error, *causes), causes, strict=False):
        effect.__cause__ = cause
    return error


CASES: list[tuple[Exception, type[DeepRAGError], str]] = [
    (StatusError(401), OperatorError, "The model server at URL refuses the key (401): check its API key."),
    (StatusError(403), OperatorError, "The model server at URL refuses the key (403): check its API key."),
    (
        StatusError(404, {"message": "no such model"}),
        OperatorError,
        "The model server at URL has no model 'm', or no such address: no such model",
    ),
    (
        StatusError(429, {"error": {"message": "wait  a\nminute"}}),
        PolicyError,
        "The model server at URL turned the call away (429, too many requests): wait a minute",
    ),
    (
        StatusError(400, "\x1b[31m\x9b2Jred\u202e\r\n\x07"),
        PolicyError,
        "The model server at URL answered 400: [31m 2Jred",
    ),
    (StatusError(400, "too long"), PolicyError, "The model server at URL answered 400: too long"),
    (StatusError(500, {"detail": "broken"}), PolicyError, "The model server at URL answered 500: broken"),
    (StatusError(502), ModelUnavailableError, "The model server at URL answered 502: Error code: 502 - and much more"),
    (
        StatusError(503, {"message": "x" * 5000}),
        ModelUnavailableError,
        f"The model server at URL answered 503: {'x' * 300}",
    ),
    (APITimeoutError(), PolicyError, "The model server at URL did not answer in time."),
    (TimeoutError(), PolicyError, "The model server at URL did not answer in time."),
    (
        caused(APIConnectionError("Connection error."), ConnectError(), ConnectionRefusedError()),
        ModelUnreachableError,
        "No model server answers at URL: start one, or correct --base-url.",
    ),
    (
        caused(APITimeoutError(), TimeoutError(), ConnectionRefusedError()),
        ModelUnreachableError,
        "No model server answers at URL: start one, or correct --base-url.",
    ),
    (
        caused(APIConnectionError("Connection error."), RemoteProtocolError("peer closed\n connection.")),
        ModelUnavailableError,
        "The connection to the model server at URL broke: peer closed connection.",
    ),
    (
        caused(APIConnectionError("Connection error."), ConnectionResetError()),
        ModelUnavailableError,
        "The connection to the model server at URL broke: ConnectionResetError.",
    ),
    (
        ValueError("\x1b]0;title\x07\n" + "x" * 5000),
        PolicyError,
        f"The model server at URL sent an answer that cannot be read (ValueError: ]0;title {'x' * 291}).",
    ),
    (
        KeyError("choices"),
        PolicyError,
        "The model server at URL sent an answer that cannot be read (KeyError: 'choices').",
    ),
]


@pytest.mark.parametrize(("error", "kind", "sentence"), CASES)
def test_an_error_is_one_sentence_for_the_one_who_can_mend_it(
    error: Exception, kind: type[DeepRAGError], sentence: str
) -> None:
    told = explain(error, SERVER, "m")
    assert type(told) is kind
    assert str(told) == sentence.replace("URL", SERVER)


def test_the_key_and_the_remedy_are_named_where_they_are_known() -> None:
    told = explain(StatusError(401), SERVER, key="SOME_API_KEY")
    assert str(told) == f"The model server at {SERVER} refuses the key (401): set SOME_API_KEY."
    lost = caused(APIConnectionError("Connection error."), ConnectError())
    told = explain(lost, SERVER, unreachable="ask again")
    assert str(told) == f"No model server answers at {SERVER}: ask again."


def test_a_server_without_the_address_is_told_apart_from_one_without_the_model() -> None:
    assert str(explain(StatusError(404, {"detail": "Not Found"}), SERVER)) == (
        f"The model server at {SERVER} has no such model or address: Not Found"
    )


@pytest.mark.parametrize("error", [OperatorError("mend it"), PolicyError("failed"), RetrievalError("lost")])
def test_an_error_of_the_package_is_left_as_it_is(error: DeepRAGError) -> None:
    assert explain(error, SERVER) is error
