"""Headers and credentials: checked before anything is sent, never shown."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping

from infer_backends._errors import InvalidInput, InvalidURL
from infer_backends._url import ModelURL

#: A field name of RFC 9110, section 5.1.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
#: A field value of RFC 9110, section 5.5, in the characters that every protocol carries.
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
#: The name of an environment variable, as shells write it.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers with their names in lower case.

    Raises:
        InvalidInput: A name or a value that cannot be sent. Values are not shown.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidInput("headers= is a mapping from names to values")
    checked: dict[str, str] = {}
    given: Iterable[tuple[object, object]] = headers.items()
    for name, value in given:
        if not isinstance(name, str) or not _NAME.match(name):
            raise InvalidInput("headers=: a name holds characters that no header may have")
        if not isinstance(value, str) or not _VALUE.match(value):
            raise InvalidInput(
                f"headers=: the value of {name!r} is not a str of printable ASCII characters"
            )
        if name.lower() in checked:
            raise InvalidInput(f"headers=: {name!r} is given twice")
        checked[name.lower()] = value
    return checked


def request_headers(
    url: ModelURL, auth: str | None, headers: Mapping[str, str] | None
) -> dict[str, str]:
    """The headers that go with every request: those given, and the URL's credentials.

    Args:
        url: Whose user and password become basic auth (RFC 7617).
        auth: The option ``auth``: ``env:NAME`` for a bearer token (RFC 6750), or None.
        headers: The headers given at open.

    Raises:
        InvalidURL: Credentials that are missing, malformed, or given twice.
    """
    checked = check_headers(headers)
    credentials = [
        text for text in (_basic(url), _bearer(auth, url) if auth is not None else None) if text
    ]
    if "authorization" in checked:
        credentials.append(checked["authorization"])
    if len(credentials) > 1:
        raise InvalidURL(
            "credentials are given twice: use one of user:password@, auth=env:NAME and an "
            "authorization header"
        )
    if credentials:
        checked["authorization"] = credentials[0]
    return checked


def _basic(url: ModelURL) -> str | None:
    if url.username is None:
        return None
    pair = f"{url.username}:{url.password or ''}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _bearer(auth: str, url: ModelURL) -> str:
    kind, colon, name = auth.partition(":")
    # What is no name may be the token itself, which is not shown.
    if kind != "env" or not colon or not _VARIABLE.fullmatch(name):
        raise InvalidURL("auth= takes env:NAME, the environment variable that holds the token")
    if url.host is None:
        raise InvalidURL("auth= has no meaning for a local model")
    token = os.environ.get(name)
    if not token:
        raise InvalidURL(f"auth=env:{name}: the environment variable {name} is not set")
    if not re.match(r"[\x21-\x7e]+\Z", token):
        raise InvalidURL(f"auth=env:{name}: the token holds white space or unprintable characters")
    return f"Bearer {token}"
