"""Pure: what a server is asked to do, checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from infer_backends._errors import InvalidInput
from infer_backends._masking import CONTROL

_PREFIX = "file:"


def check_model_name(name: object) -> str:
    """The name of a model.

    Raises:
        InvalidInput: It is none.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"a model's name is a str, not {type(name).__name__}")
    if not name or CONTROL.search(name) or not _is_unicode(name):
        raise InvalidInput("a model's name is text without control characters, and not empty")
    return name


def check_version(version: object) -> str | None:
    """A ``version=``, as text; None stays None.

    Raises:
        InvalidInput: It is no version.
    """
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, (str, int)):
        raise InvalidInput(f"version= is a str or an int, not {type(version).__name__}")
    if isinstance(version, int):
        if not 0 <= version < 1 << 63:
            raise InvalidInput("version= is a number from 0 to 63 bits")
        return str(version)
    if not version or CONTROL.search(version) or not _is_unicode(version):
        raise InvalidInput("version= is text without control characters, and not empty")
    return version


def render_config(config: object) -> str | None:
    """A ``config=``, as the text of a JSON object; None stays None.

    Raises:
        InvalidInput: It is no JSON object.
    """
    if config is None:
        return None
    if isinstance(config, str):
        if not _is_object(config):
            raise InvalidInput(
                "config= is no JSON object: write the model's configuration as Triton's "
                '/v2/models/NAME/config shows it, as in \'{"backend": "python"}\', or pass a dict'
            )
        return config
    if not isinstance(config, Mapping):
        raise InvalidInput(
            f"config= is a mapping, or the text of a JSON object, not {type(config).__name__}"
        )
    try:
        return json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        # Only the kind: what it says may hold the value.
        raise InvalidInput(
            f"config= has a part that JSON cannot hold ({type(exc).__name__}): expected dicts with "
            "str keys, lists, str, finite numbers, bool and None"
        ) from None


def check_files(files: object) -> dict[str, bytes]:
    """A ``files=``: the contents of files, by their paths in the model's folder.

    Raises:
        InvalidInput: A path leads out of the folder, or its contents are no bytes.
    """
    if files is None:
        return {}
    if not isinstance(files, Mapping):
        raise InvalidInput(
            "files= is a mapping from paths in the model's folder, as 1/model.onnx, to bytes"
        )
    given: Iterable[tuple[object, Any]] = files.items()
    return {_check_path(path): _check_contents(path, contents) for path, contents in given}


def _check_path(path: object) -> str:
    if not isinstance(path, str) or not path or CONTROL.search(path) or not _is_unicode(path):
        raise InvalidInput("files=: a path is a str, as 1/model.onnx")
    if path.startswith(_PREFIX):
        raise InvalidInput(
            f"files=: {path!r} begins with {_PREFIX!r}, which the library adds: write "
            f"{path.removeprefix(_PREFIX)!r}"
        )
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise InvalidInput(
            f"files=: {path!r} is no path within the model's folder: write it as 1/model.onnx"
        )
    return path


def _check_contents(path: object, contents: object) -> bytes:
    if not isinstance(contents, (bytes, bytearray, memoryview)):
        raise InvalidInput(
            f"files=: the contents of {path!r} are {type(contents).__name__}; expected bytes, as "
            "Path.read_bytes() gives them"
        )
    return bytes(contents)


def _is_object(text: str) -> bool:
    try:
        return _is_unicode(text) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
