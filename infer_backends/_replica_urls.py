"""Pure: from a URL with ``host=`` options to the URL of each replica."""

from __future__ import annotations

from dataclasses import replace

from infer_backends._errors import InvalidURL
from infer_backends._hostport import parse_hostport
from infer_backends._url import ModelURL

#: The option that adds a replica.
OPTION = "host"


def replica_urls(url: ModelURL) -> tuple[ModelURL, ...]:
    """The URLs of all replicas: the URL itself, then one for each of its ``host=`` options.

    They differ in host and port only, and none has a ``host=`` option. A replica without a port
    has that of the URL, or the scheme's default if the URL has none either. That the URL says no
    port and a replica says the default is not noticed: the core knows no scheme's default.

    Raises:
        InvalidURL: The URL is a path; a ``host=`` names no host, or more than host and port; or
            two replicas are the same.

    Example:
        >>> a, b = replica_urls(ModelURL.parse("http://a:8000/m?host=b"))
        >>> str(b)
        'http://b:8000/m'
    """
    first = replace(url, options=tuple(pair for pair in url.options if pair[0] != OPTION))
    urls = [first]
    for name, value in url.options:
        if name != OPTION:
            continue
        other = _replica(first, value)
        if any((other.host, other.port) == (known.host, known.port) for known in urls):
            raise InvalidURL(
                f"two replicas of {url.location!r} are the same host and port: "
                f"write each in one {OPTION}= only, and the first one before the model"
            )
        urls.append(other)
    return tuple(urls)


def _replica(first: ModelURL, value: str) -> ModelURL:
    where = f"the option {OPTION!r} of {first.location!r}"
    if first.host is None:
        raise InvalidURL(
            f"{where} has no meaning for a path: remove it, or write the URL of a server"
        )
    if not value:
        raise InvalidURL(f"{where} is empty: write {OPTION}=b or {OPTION}=b:8001")
    # None of these texts shows the value: it may hold a password.
    if "@" in value:
        raise InvalidURL(
            f"{where} holds an '@': write host and port only; "
            "all replicas get the credentials of the URL"
        )
    if "/" in value or "?" in value:
        raise InvalidURL(
            f"{where} holds a '/' or a '?': write host and port only, without scheme and model, "
            f"as in {OPTION}=b:8001"
        )
    # The value was percent-decoded with its option.
    encoded = value.replace("%", "%25")
    try:
        host, port = parse_hostport(encoded, f"{first.scheme}://{encoded}")
    except InvalidURL as exc:
        raise InvalidURL(f"{where} is wrong: {exc}") from None
    return replace(first, host=host, port=first.port if port is None else port)
