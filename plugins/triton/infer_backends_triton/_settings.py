"""What a connection to a Triton server needs to know, and the options that say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infer_backends.plugin import InferError, InvalidURL, ModelURL, OpenOptions, Option

#: The options of both protocols.
TRITON_OPTIONS = (
    Option("ca", str, None, "PEM file of the certificate authorities to trust (TLS)"),
    Option("cert", str, None, "PEM file of the client's certificate (TLS)"),
    Option("key", str, None, "PEM file of the client's private key (TLS)"),
    Option("max_response_bytes", int, 2 * 1024**3, "largest answer taken, in bytes", minimum=1),
    Option(
        "shared_memory",
        str,
        "auto",
        "large tensors by shared memory: where it works, never, or insist",
        ("auto", "off", "system"),
    ),
)

_PLAIN_PORTS = {"http": 8000, "grpc": 8001}
_TLS_PORT = 443
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where to connect, and how.

    Attributes:
        url: The URL as errors show it: secrets masked, without options.
        host: A name or an address; IPv6 without brackets.
        port: The port.
        secure: Whether the connection is TLS.
        ca: A PEM file of the authorities to trust; None for the system's.
        cert: A PEM file of the client's certificate chain, or None.
        key: A PEM file of the client's private key, or None.
        connect_timeout: The bound on connecting, in seconds.
        headers: Headers, or gRPC metadata, of every request; names in lower case.
        max_response_bytes: The largest answer taken, in bytes.
        shared_memory: ``auto``, ``off`` or ``system``.
        secrets: Texts that no error may show, even when a server repeats them.
    """

    url: str
    host: str
    port: int
    secure: bool
    ca: str | None
    cert: str | None
    key: str | None
    connect_timeout: float
    headers: Mapping[str, str] = field(repr=False)
    max_response_bytes: int
    shared_memory: str
    secrets: frozenset[str] = field(repr=False)

    @classmethod
    def read(cls, url: ModelURL, options: OpenOptions) -> ConnectionSettings:
        """The settings for ``url``.

        Raises:
            InvalidURL: The URL names no host, a TLS option does not fit, a file cannot be read,
                or a header cannot be sent.
        """
        protocol = url.scheme.removeprefix("triton+")
        secure = protocol.endswith("s")
        default_port = _TLS_PORT if secure else _PLAIN_PORTS[protocol]
        host, port = url.require_host(default_port)
        ca, cert, key = (_read_file_option(options, name) for name in ("ca", "cert", "key"))
        if not secure and (ca or cert or key):
            raise InvalidURL(
                f"{url.location!r} is not encrypted, so the options ca, cert and key have no "
                f"meaning: write {url.scheme}s:// or remove them"
            )
        if key is not None and cert is None:
            raise InvalidURL("the option 'key' needs the option 'cert': the certificate it is for")
        check_headers(options.headers, InvalidURL)
        return cls(
            url=url.location,
            host=host,
            port=port,
            secure=secure,
            ca=ca,
            cert=cert,
            key=key,
            connect_timeout=options.connect_timeout,
            headers=dict(options.headers),
            max_response_bytes=options["max_response_bytes"],
            shared_memory=options["shared_memory"],
            secrets=secret_values(options.headers) | ({url.password} if url.password else set()),
        )

    @property
    def address(self) -> str:
        """Host and port as one text, with brackets around IPv6."""
        return _join(self.host, self.port)

    @property
    def authority(self) -> str:
        """The address as the server may see it: a zone means something here only (RFC 6874)."""
        return _join(self.host.partition("%")[0], self.port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_headers(headers: Mapping[str, str], error: type[InferError]) -> None:
    """Refuse headers that would break out of their line, or that no line can hold.

    Args:
        headers: Header values by name.
        error: What to raise. The message has the header's name, never its value.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise error("a header's name is letters, digits and '-'; one given is not")
        if not _HEADER_VALUE.fullmatch(value):
            raise error(
                f"the header {name!r} has a value that cannot be sent: expected Latin-1 text on "
                "one line"
            )


def _read_file_option(options: OpenOptions, name: str) -> str | None:
    path: str | None = options[name]
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as exc:
        raise InvalidURL(f"the file of the option {name!r} cannot be read: {path!r}") from exc
    return path


def secret_values(headers: Mapping[str, str]) -> frozenset[str]:
    """What in these headers must not be shown, should a server repeat it."""
    values = set(headers.values())
    for name, value in headers.items():
        if name.endswith("authorization"):
            # "Bearer abc" is a secret, and so is "abc".
            values.add(value.partition(" ")[2])
    return frozenset(values - {""})
