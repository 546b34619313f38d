"""Channel credentials, from the files that a URL names or from what the system trusts."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

from infer_backends.plugin import InvalidURL
from infer_backends_triton._grpc_runtime import grpc
from infer_backends_triton._settings import ConnectionSettings

_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
# The names that OpenSSL gives the files of a directory of authorities.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def channel_credentials(settings: ConnectionSettings) -> grpc.ChannelCredentials | None:
    """The credentials of a TLS channel, or None for a plain one.

    Trusted are the authorities of the option ``ca``. Without it, those of the file that
    ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names; without that, the system's, as Python's ``ssl``
    finds them (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are looked at); and where the system has
    none, those that grpc ships.

    Raises:
        InvalidURL: A file does not hold what its option wants.
    """
    if not settings.secure:
        return None
    _check_files(settings)
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca) if settings.ca else system_roots(),
        private_key=_read(settings.key or settings.cert) if settings.cert else None,
        certificate_chain=_read(settings.cert) if settings.cert else None,
    )


def system_roots() -> bytes | None:
    """The system's authorities as PEM; None where grpc's own choice is to be taken."""
    if os.environ.get(_ROOTS_VARIABLE):
        return None
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        roots = Path(paths.cafile).read_bytes()
    elif paths.capath:
        roots = _read_directory(Path(paths.capath))
    else:
        # Where the system keeps them in no file, as on Windows.
        roots = "".join(
            ssl.DER_cert_to_PEM_cert(der)
            for der in ssl.create_default_context().get_ca_certs(binary_form=True)
        ).encode()
    return roots or None


def _read_directory(directory: Path) -> bytes:
    files = sorted(path for path in directory.iterdir() if _HASHED.fullmatch(path.name))
    return b"\n".join(dict.fromkeys(path.read_bytes() for path in files))


def _check_files(settings: ConnectionSettings) -> None:
    """Have ``ssl`` read the files: grpc finds fault with them on every connection, on stderr."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca is not None:
        try:
            context.load_verify_locations(settings.ca)
        except (ssl.SSLError, OSError, ValueError) as exc:
            raise InvalidURL(
                f"the file of the option 'ca' holds no certificates in PEM form: {settings.ca!r}"
            ) from exc
    if settings.cert is not None:
        try:
            # A password, even an empty one, keeps OpenSSL from asking for it on the terminal.
            context.load_cert_chain(settings.cert, settings.key, password="")
        except (ssl.SSLError, OSError, ValueError) as exc:
            raise InvalidURL(
                "the files of the options 'cert' and 'key' hold no certificate and the key that "
                f"belongs to it, unencrypted, in PEM form: {settings.cert!r}"
            ) from exc


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
