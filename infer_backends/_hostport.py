"""The host and the port of a URL: parsed, and refused with what to write instead."""

from __future__ import annotations

import re

from infer_backends._errors import InvalidURL
from infer_backends._escaping import decode_part
from infer_backends._masking import mask_port, mask_text

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_\-]{1,63}(\.[A-Za-z0-9_\-]{1,63})*\.?\Z")
_ZONE = re.compile(r"[A-Za-z0-9._~\-]+")


def parse_hostport(hostport: str, text: str) -> tuple[str, int | None]:
    """Take ``host[:port]`` apart: the host decoded, IPv6 without its brackets, and the port.

    Args:
        hostport: What stands between the user and the path.
        text: The whole URL, for errors, which mask what is secret in it.

    Raises:
        InvalidURL: It names no host, or no port; the message says what to write.
    """
    if hostport.startswith("["):
        address, bracket, port = hostport[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidURL(f"{mask_text(text)!r}: write an IPv6 host as [::1]:8000")
        return _ipv6(address, text), _parse_port(port[1:], text) if port else None
    name, colon, port = hostport.partition(":")
    if ":" in port:
        raise InvalidURL(
            f"{mask_text(text)!r} has several ':' after the host: write an IPv6 "
            "host in brackets, as [::1]:8000"
        )
    host = decode_part(name, "host", text).lower()
    if not _HOST.match(host):
        raise InvalidURL(
            f"{mask_text(text)!r} has no valid host name: expected letters, digits, '-', '.' and "
            "'_' (a name in another script in its xn-- form)"
        )
    return host, _parse_port(port, text) if colon else None


def _ipv6(address: str, text: str) -> str:
    import ipaddress

    decoded = decode_part(address, "host", text)
    literal, percent, zone = decoded.partition("%")
    try:
        ipaddress.IPv6Address(literal)
    except ValueError:
        raise InvalidURL(f"{mask_text(text)!r} has no valid IPv6 address in brackets") from None
    # RFC 6874: a zone is what may stand in a URL unescaped. Names of interfaces keep their case.
    if percent and not _ZONE.fullmatch(zone):
        raise InvalidURL(f"{mask_text(text)!r} has no valid IPv6 zone: write [fe80::1%25eth0]")
    return f"{literal.lower()}{percent}{zone}"


def _parse_port(port: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise InvalidURL(f"the port in {mask_port(text)!r} is not a number from 1 to 65535")
    return int(port)
