"""The values of ``--input``: from text on the command line to what ``Model.infer`` takes.

==================== =========================================================================
``NAME=@FILE.npy``   the array of the file
``NAME=@FILE.json``  the nested list in the file
``NAME=@FILE.npz:K`` the array K of the file
``NAME=@FILE.npz``   the only array of the file
``NAME=VALUE``       JSON (``[[1, 2]]``), or, for a BYTES input, text as it stands
``@FILE.npz``        all arrays of the file, by name; likewise an object in ``@FILE.json``
``{"NAME": ...}``    inputs by name, as JSON
``@FILE`` or VALUE   without a name, for a model with one input
==================== =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer_backends._cli._arrays import BadFile, read_npy, read_npz
from infer_backends._cli._json import from_json, is_element, parse_json
from infer_backends._tensors import DataType, ModelMetadata, TensorSpec


class BadInput(Exception):
    """An ``--input`` that cannot be understood. The message says what to write."""


@dataclass(frozen=True, slots=True)
class Given:
    """One ``--input``, its file read.

    Attributes:
        name: The input's name, or None where none was written.
        value: An array or a nested list; a dict from names to those; or text from the command
            line, whose meaning depends on the input's datatype.
        literal: Whether ``value`` is such text.
    """

    name: str | None
    value: Any
    literal: bool = False


def read_input(argument: str) -> Given:
    """Understand one ``--input``, and read its file.

    Raises:
        BadInput: With what is wrong.
    """
    if argument.startswith("@"):
        return Given(None, _read(argument[1:], None))
    name, equals, text = argument.partition("=")
    # JSON has no "=" outside of strings, and a tensor's name is rarely a number.
    if (not equals or argument.startswith(("[", '"', "{"))) and _is_json(argument):
        return _unnamed(argument)
    if not equals:
        raise BadInput(
            f"--input {_short(argument)}: expected NAME=@FILE, NAME=VALUE, @FILE, or a VALUE in "
            "JSON"
        )
    if not name:
        raise BadInput(f"--input {_short(argument)}: no name before '='")
    if text.startswith("@"):
        return Given(name, _read(text[1:], name))
    return Given(name, text, literal=True)


def _unnamed(text: str) -> Given:
    value = parse_json(text)
    if not isinstance(value, dict) or is_element(value):
        return Given(None, text, literal=True)
    try:
        return Given(None, {name: from_json(item) for name, item in value.items()})
    except ValueError as exc:
        raise BadInput(f"--input {_short(text)}: {exc}") from exc


def bind_inputs(given: Iterable[Given], metadata: ModelMetadata) -> dict[str, Any]:
    """The inputs of one call, by name. Whether they fit the model is for the model to say.

    Raises:
        BadInput: A name is missing, or given twice.
    """
    specs = {spec.name: spec for spec in metadata.inputs}
    bound: dict[str, Any] = {}
    for item in given:
        if item.name is None and isinstance(item.value, dict):
            pairs = item.value
        else:
            name = item.name if item.name is not None else _only_input(metadata)
            pairs = {name: _literal(item.value, specs.get(name)) if item.literal else item.value}
        for name, value in pairs.items():
            if name in bound:
                raise BadInput(f"the input {name!r} is given twice")
            bound[name] = value
    return bound


def _only_input(metadata: ModelMetadata) -> str:
    if len(metadata.inputs) != 1:
        names = ", ".join(spec.name for spec in metadata.inputs)
        raise BadInput(f"an --input without a name, and the model has several inputs: {names}")
    return metadata.inputs[0].name


def _literal(text: str, spec: TensorSpec | None) -> Any:
    """What text on the command line means for an input."""
    is_text = spec is not None and spec.dtype is DataType.BYTES
    try:
        value = from_json(parse_json(text))
    except ValueError as exc:
        if is_text:
            return text
        label = "the value" if spec is None else f"the value of {spec.name!r}"
        raise BadInput(f"{label} is not JSON: expected as in [[1, 2]], or @FILE") from exc
    return text if is_text and not isinstance(value, (list, str, bytes)) else value


def _read(text: str, name: str | None) -> Any:
    path, key = _split_key(text)
    readers: dict[str, Callable[[Path], Any]] = {
        ".npy": read_npy,
        ".npz": lambda path: _choose(read_npz(path), key, name),
        ".json": lambda path: _read_json(path, name),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"the file {str(path)!r}: expected one that ends in .npy, .npz or .json")
    try:
        return reader(path)
    except OSError as exc:
        raise BadInput(f"the file {str(path)!r} cannot be read: {exc.strerror or exc}") from exc
    except BadFile as exc:
        raise BadInput(f"the file {str(path)!r}: {exc}") from exc


def _split_key(text: str) -> tuple[Path, str | None]:
    at = text.lower().rfind(".npz:")
    if at < 0:
        return Path(text), None
    return Path(text[: at + 4]), text[at + 5 :]


def _choose(arrays: dict[str, Any], key: str | None, name: str | None) -> Any:
    if key is not None:
        if key not in arrays:
            raise BadFile(f"it has no array {key!r}; it has {', '.join(arrays) or 'none'}")
        return arrays[key]
    if name is None:
        return arrays
    if len(arrays) != 1:
        raise BadFile(f"it has {len(arrays)} arrays: write FILE.npz:KEY to choose one")
    return next(iter(arrays.values()))


def _read_json(path: Path, name: str | None) -> Any:
    try:
        value = parse_json(path.read_bytes())
        if name is None and isinstance(value, dict) and not is_element(value):
            return {key: from_json(item) for key, item in value.items()}
        return from_json(value)
    except ValueError as exc:
        raise BadFile(f"it is not JSON that a tensor can be made of: {exc}") from exc


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
