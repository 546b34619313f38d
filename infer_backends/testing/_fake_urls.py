"""Pure: a fake model that its URL describes, as in ``fake:m?inputs=x:FP32[3]&outputs=...``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from infer_backends.plugin import DataType, InvalidURL, ModelMetadata, ModelURL, TensorSpec

_TENSOR = re.compile(r"(?P<name>.+?)\s*:\s*(?P<dtype>[A-Za-z0-9]+)\s*\[(?P<shape>[-\d\s,]*)\]")
#: How a tensor is written.
FORM = "NAME:DATATYPE[SIZE,SIZE], as in image:FP32[-1,64], several of them with ';' between"
#: The options that describe a model; the others are for a model that was described elsewhere, too.
DESCRIBING = ("inputs", "outputs", "max_batch_size")


def describes(options: Mapping[str, Any]) -> bool:
    """Whether a URL says what its model is."""
    return any(options[name] is not None for name in DESCRIBING)


def described(url: ModelURL, platform: str, options: Mapping[str, Any]) -> ModelMetadata:
    """The metadata that a URL's options describe.

    Raises:
        InvalidURL: Something is missing in them, or wrong.
    """
    for name in ("inputs", "outputs"):
        if options[name] is None:
            raise InvalidURL(
                f"{url.location!r} is described in its URL, without {name}=: write {FORM}"
            )
    return ModelMetadata(
        url.require_path(),
        ("1",),
        platform,
        read_tensors(options["inputs"], "inputs"),
        read_tensors(options["outputs"], "outputs"),
        max_batch_size=options["max_batch_size"] or 0,
    )


def read_tensors(text: str, option: str) -> tuple[TensorSpec, ...]:
    """The tensors of an option's value.

    Raises:
        InvalidURL: It is no such list.
    """
    specs = tuple(_read_tensor(part, option) for part in text.split(";"))
    if len({spec.name for spec in specs}) < len(specs):
        raise InvalidURL(f"the option {option!r} has two tensors of one name: each has its own")
    return specs


def _read_tensor(text: str, option: str) -> TensorSpec:
    found = _TENSOR.fullmatch(text.strip())
    sizes = [] if found is None else [size.strip() for size in found["shape"].split(",")]
    if sizes == [""]:
        sizes = []
    if found is None or not all(re.fullmatch(r"-1|\d{1,9}", size) for size in sizes):
        raise InvalidURL(f"the option {option!r} has a wrong value: expected {FORM}")
    try:
        dtype = DataType(found["dtype"].upper())
    except ValueError as exc:
        raise InvalidURL(
            f"the option {option!r} has a wrong value: expected one of the datatypes "
            f"{', '.join(DataType)}; got {found['dtype']!r}"
        ) from exc
    return TensorSpec(found["name"], dtype, tuple(map(int, sizes)))
