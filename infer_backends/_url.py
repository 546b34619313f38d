"""The URL that names a model: parse, render, mask secrets.

Two forms are understood (``?option=value`` pairs may follow either)::

    scheme://[user[:password]@]host[:port]/[base-path/v2/models/]MODEL[/versions/V]
    scheme:path          scheme:///absolute/path          a bare path that ends in .onnx

``urllib.parse.urlsplit`` is not used: it deletes tabs and newlines silently and takes ``m#1``
apart. Here a character that does not belong is an error that says what to write instead.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

from infer_backends._errors import InvalidURL
from infer_backends._escaping import BAD_ESCAPE, decode_part, encode_path, escape, unescape
from infer_backends._hostport import parse_hostport
from infer_backends._masking import (
    CONTROL,
    MASK,
    holds_credentials,
    mask_path,
    mask_text,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]|(?!\x20)\s")


@dataclass(frozen=True, slots=True)
class ModelURL:
    """A parsed model URL. ``str`` and ``repr`` mask what is secret in it; pickles do not.

    Attributes:
        scheme: In lower case, as ``http`` or ``triton+grpc``.
        host: The host's name or address (IPv6 without brackets); None in the path form.
        port: The port, or None for the scheme's default.
        username: The user of basic auth, or None.
        password: The password of basic auth, or None.
        base_path: The segments before ``v2``, decoded.
        model: The model's name, or None when the URL names none.
        version: The model's version, or None for the server's choice.
        path: The decoded path of the path form; None in the host form.
        options: The option pairs, decoded, in order, ``version`` taken out of the host form.
        secret_options: The names of options whose values are masked.
    """

    scheme: str
    host: str | None = None
    port: int | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    base_path: tuple[str, ...] = ()
    model: str | None = None
    version: str | None = None
    path: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    secret_options: frozenset[str] = field(default=frozenset({"auth"}), compare=False)

    @classmethod
    def parse(cls, text: str | os.PathLike[str] | ModelURL) -> ModelURL:
        """Parse one URL, or one path that ends in ``.onnx``.

        Raises:
            InvalidURL: With what is wrong and what to write instead; secrets are not shown.
        """
        if isinstance(text, ModelURL):
            return text
        if not isinstance(text, str):
            return _from_path(text)
        found = _SCHEME.match(text)
        if found is None:
            return _from_bare_path(text)
        _require_clean(text)
        scheme = found.group(1).lower()
        rest = text[found.end() :]
        if (scheme == "localhost" or "." in scheme) and re.match(r"\d+(/|\?|\Z)", rest):
            raise InvalidURL(
                f"{mask_text(text)!r} has no scheme: write http://{mask_text(text)}, "
                "or grpc:// before the host"
            )
        if "." in scheme:
            raise InvalidURL(f"a scheme has no '.' in it: write {scheme.replace('.', '+')!r}")
        rest, _, query = rest.partition("?")
        options = _parse_query(query, text) if "?" in text else ()
        if rest.startswith("//") and not rest.startswith("///"):
            return _parse_host_form(scheme, rest[2:], options, text)
        return _parse_path_form(scheme, rest.removeprefix("//"), options, text)

    def render(self, *, mask: bool = True, options: bool = True) -> str:
        """The URL as text that parses back to this one (unless something was masked).

        Args:
            mask: Replace the user, the password and secret options by ``***``.
            options: Include the ``?option=value`` pairs.
        """
        text = f"{self.scheme}:"
        if self.path is not None:
            hidden = mask and holds_credentials(self.path)
            path = mask_path(self.path) if hidden else self.path
            escaped = escape(encode_path(path), safe="/:\\*@" if hidden else "/:\\")
            text += f"//{escaped}" if escaped.startswith("//") else escaped
        else:
            text += f"//{self._authority(mask)}{self._model_path()}"
        pairs = self.options if options else ()
        if options and self.model is None and self.version is not None:
            pairs = (("version", self.version), *pairs)
        if pairs:
            text += "?" + "&".join(
                f"{escape(name)}={MASK if mask and name in self.secret_options else escape(value)}"
                for name, value in pairs
            )
        return text

    @property
    def location(self) -> str:
        """The URL as errors and logs show it, without its options and with secrets masked."""
        return self.render(options=False)

    def with_secret_options(self, names: frozenset[str]) -> ModelURL:
        """The same URL, with the values of these options masked as well."""
        return replace(self, secret_options=self.secret_options | names)

    def with_version(self, version: str) -> ModelURL:
        """The same URL, for this version of the model.

        Raises:
            InvalidURL: The URL says another version, or has none to choose.
        """
        if self.host is None:
            raise InvalidURL(f"version= has no meaning for {self.location!r}, which is a path")
        if not version or CONTROL.search(version):
            raise InvalidURL("version= is empty, or holds a control character")
        if self.version not in {None, version}:
            raise InvalidURL("the version is given in the URL and in the call, with two values")
        return replace(self, version=version)

    def require_host(self, default_port: int) -> tuple[str, int]:
        """The host and port of a URL in the host form.

        Raises:
            InvalidURL: The URL is in the path form.
        """
        if self.host is None:
            # What was meant for a host may have had a user and a password.
            text = f"{self.scheme}:{mask_path(self.path or '')}"
            raise InvalidURL(
                f"{mask_text(text)!r} names no host: write "
                f"{self.scheme}://host:{default_port}/model"
            )
        return self.host, self.port or default_port

    def require_path(self) -> str:
        """The path of a URL in the path form.

        Raises:
            InvalidURL: The URL names a host.
        """
        if self.path is None:
            tail = "/".join(part for part in (self.host, self.model) if part)
            raise InvalidURL(
                f"{self.location!r} names a host, and {self.scheme!r} wants a path: write "
                f"{self.scheme}:{escape(tail, safe='/')} for a relative path, "
                f"{self.scheme}:///{escape(tail, safe='/')} for an absolute one"
            )
        return self.path

    def _authority(self, mask: bool) -> str:
        host = self.host or ""
        text = f"[{host.replace('%', '%25')}]" if ":" in host else host
        if self.port is not None:
            text += f":{self.port}"
        if self.username is None:
            return text
        if mask:
            return f"{MASK}@{text}"
        password = "" if self.password is None else f":{escape(self.password)}"
        return f"{escape(self.username)}{password}@{text}"

    def _model_path(self) -> str:
        segments = [*self.base_path]
        if self.base_path or self.model == "v2":
            segments.append("v2")
            if self.model is not None:
                segments.append("models")
        if self.model is not None:
            segments.append(self.model)
            if self.version is not None:
                segments += ["versions", self.version]
        return "".join(f"/{escape(segment)}" for segment in segments)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"ModelURL({self.render()!r})"


def split_urls(text: str) -> list[str]:
    """The URLs of a string that holds several, separated by white space."""
    return text.split()


def has_scheme(text: str) -> bool:
    """Whether a text begins as a URL does."""
    return _SCHEME.match(text) is not None


def _require_clean(text: str) -> None:
    """Refuse what may not stand anywhere in a URL."""
    if "#" in text:
        raise InvalidURL(f"{mask_text(text)!r} has a fragment: write %23 for a '#' in a name")
    found = _UNSAFE.search(text)
    if found is not None:
        raise InvalidURL(
            f"{mask_text(text)!r} holds white space or a control character "
            f"(U+{ord(found.group()):04X}): remove it, or percent-encode it"
        )


def _from_path(path: os.PathLike[str]) -> ModelURL:
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise InvalidURL(
            f"a model is named by a URL or a path, not by {type(path).__name__}"
        ) from None
    return _from_literal_path(text)


def _from_bare_path(text: str) -> ModelURL:
    if not text.strip():
        raise InvalidURL("the URL is empty: write http://host:8000/model or onnx:model.onnx")
    if text.lower().endswith(".onnx"):
        return _from_literal_path(text)
    if ".onnx?" in text.lower():
        raise InvalidURL(f"{mask_text(text)!r} has options but no scheme: write onnx: before it")
    raise InvalidURL(
        f"{mask_text(text)!r} has no scheme: write http://host:8000/model, "
        "grpc://host:8001/model or onnx:model.onnx"
    )


def _from_literal_path(text: str) -> ModelURL:
    if "\0" in text:
        raise InvalidURL("a path holds no NUL character")
    if not text.lower().endswith(".onnx"):
        raise InvalidURL(
            f"the path {mask_text(text)!r} does not end in .onnx: name the runtime that reads it, "
            "as in onnx:model.bin"
        )
    _require_text(text)
    return ModelURL(scheme="onnx", path=text)


def _require_text(path: str) -> None:
    # Undecodable bytes are U+DC80 to U+DCFF; the other surrogates stand for nothing.
    if re.search("[\ud800-\udc7f\udd00-\udfff]", path):
        raise InvalidURL("a path holds a lone surrogate, which is no text: write the file's name")


def _parse_path_form(
    scheme: str, path: str, options: tuple[tuple[str, str], ...], text: str
) -> ModelURL:
    if BAD_ESCAPE.search(path):
        decode_part(path, "path", text)
    _require_text(path)
    decoded = unescape(encode_path(path)).decode("utf-8", "surrogateescape")
    if "\0" in decoded or not decoded:
        raise InvalidURL(f"{mask_text(text)!r} names no path: write {scheme}:path/to/model")
    return ModelURL(scheme=scheme, path=decoded, options=options)


def _parse_host_form(
    scheme: str, rest: str, options: tuple[tuple[str, str], ...], text: str
) -> ModelURL:
    authority, slash, path = rest.partition("/")
    if "\\" in authority:
        raise InvalidURL(f"{mask_text(text)!r} has a backslash in its host: write '/'")
    userinfo, at, hostport = authority.rpartition("@")
    if "@" in userinfo or "@" in path:
        raise InvalidURL(
            f"{mask_text(text)!r} has a second '@': write %40 for an '@' in a name or a password"
        )
    username = password = None
    if at:
        user, colon, secret = userinfo.partition(":")
        username = decode_part(user, "user", text)
        password = decode_part(secret, "password", text) if colon else None
        if ":" in username:
            raise InvalidURL(f"the user in {mask_text(text)!r} holds a ':': basic auth has no way")
    host, port = parse_hostport(hostport, text)
    base, model, version = _parse_model_path(path if slash else "", text)
    asked = [value for name, value in options if name == "version"]
    for value in asked:
        if not value or (version is not None and version != value):
            raise InvalidURL(f"{mask_text(text)!r} gives the version twice, or gives none")
        version = value
    return ModelURL(
        scheme=scheme,
        host=host,
        port=port,
        username=username,
        password=password,
        base_path=base,
        model=model,
        version=version,
        options=tuple(pair for pair in options if pair[0] != "version"),
    )


def _parse_model_path(path: str, text: str) -> tuple[tuple[str, ...], str | None, str | None]:
    """Take ``[base/v2/models/]MODEL[/versions/V]`` apart."""
    raw = path.removesuffix("/").split("/") if path not in {"", "/"} else []
    segments = [decode_part(segment, "path", text) for segment in raw]
    if any(segment in {"", ".", ".."} for segment in segments):
        raise InvalidURL(f"{mask_text(text)!r} has an empty, '.' or '..' part in its path")
    base: tuple[str, ...] = ()
    for end in (len(segments) - 1, len(segments) - 3):
        if end >= 2 and segments[end - 2 : end] == ["v2", "models"]:
            base, segments = tuple(segments[: end - 2]), segments[end:]
            break
    else:
        if segments[-1:] == ["v2"]:
            return tuple(segments[:-1]), None, None
    match segments:
        case []:
            return base, None, None
        case [model]:
            return base, model, None
        case [model, "versions", version]:
            return base, model, version
    raise InvalidURL(
        f"the path of {mask_text(text)!r} names no model: expected /MODEL, /MODEL/versions/V or "
        "/base/v2/models/MODEL (write %2F for a '/' in a name)"
    )


def _parse_query(query: str, text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidURL(
                f"{mask_text(text)!r} has an option without a name or a value: write "
                "?name=value&name=value"
            )
        pairs.append((decode_part(name, "option", text), decode_part(value, "option", text)))
    return tuple(pairs)
