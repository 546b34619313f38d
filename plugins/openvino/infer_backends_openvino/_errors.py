"""OpenVINO's exceptions as the library's own.

Nearly all of them are RuntimeErrors, so their text tells them apart. It quotes what a tensor holds,
so what a running model says is shown, and chained, with its numbers blotted out.
"""

from __future__ import annotations

import re

from infer_backends.plugin import (
    InferenceFailed,
    InferError,
    InvalidInput,
    ModelFile,
    ModelNotFound,
    ProtocolError,
    UnsupportedOperation,
    one_line,
    without_numbers,
)

# Where in OpenVINO's own source something was noticed is of no use to the reader.
_NOISE = re.compile(
    r"Exception from \S+?:\d+:|Check '.*?' failed at \S+?:\d+:|FrontEnd API failed with \w+:"
    r"|Caught exception:"
)
_UNSUPPORTED = re.compile(
    r"OpConversionFailure|No conversion rule found|NotImplementedFailure|is not supported"
    r"|unsupported opset|Unsupported operation|Cannot create .* layer",
    re.IGNORECASE,
)
_MEMORY = re.compile(r"bad_alloc|allocat|out of memory", re.IGNORECASE)
_NO_WEIGHTS = "bin file cannot be found"


def read_error(exc: Exception, file: ModelFile, version: str) -> InferError:
    """What to raise when a file could not be read, with its cause."""
    text, location = _account(exc, file), file.location
    error: InferError
    if _is_memory(exc):
        error = InferenceFailed(f"there is not enough memory to read {location!r}")
    elif _NO_WEIGHTS in str(exc):
        error = ModelNotFound(
            f"the weights of {location!r} are missing: they are in a file of the same name that "
            "ends in .bin, beside it"
        )
    elif _UNSUPPORTED.search(str(exc)):
        error = UnsupportedOperation(
            f"OpenVINO {version} cannot run {location!r}: {text}. A newer OpenVINO may; or export "
            "the model for an older opset"
        )
    else:
        error = ProtocolError(
            f"OpenVINO {version} cannot read {location!r}: {text}. Copy or export it again"
        )
    error.__cause__ = exc
    return error


def compile_error(exc: Exception, file: ModelFile, device: str, version: str) -> InferError:
    """What to raise when a model could not be compiled, with its cause."""
    error: InferError
    if _is_memory(exc):
        error = InferenceFailed(f"there is not enough memory to load {file.location!r}")
    else:
        error = UnsupportedOperation(
            f"OpenVINO {version} cannot run {file.location!r} on {device}: {_account(exc, file)}. "
            "Try precision=device, or another device"
        )
    error.__cause__ = exc
    return error


def input_error(exc: Exception, name: str, model: str) -> InferError:
    """What to raise when an input was refused before the run, with its cause."""
    # It speaks of shapes and types alone.
    error = InvalidInput(
        f"OpenVINO refuses the input {name!r} of the model {model!r}: {_plain(str(exc))}"
    )
    error.__cause__ = exc
    return error


def run_error(exc: Exception, model: str) -> InferError:
    """What to raise when a run failed, with its cause."""
    if _is_memory(exc):
        error = InferenceFailed(f"there is not enough memory to run the model {model!r}")
        error.__cause__ = type(exc)()
        return error
    text = without_numbers(_plain(str(exc)))
    error = InferenceFailed(f"the model {model!r} failed: {text}")
    error.__cause__ = type(exc)(text)
    return error


def _account(exc: Exception, file: ModelFile) -> str:
    return _plain(str(exc).replace(file.path, file.location))


def _plain(text: str) -> str:
    return one_line(_NOISE.sub(" ", text))


def _is_memory(exc: Exception) -> bool:
    return isinstance(exc, MemoryError) or _MEMORY.search(str(exc)) is not None
