"""What the plugin tells of a model that it does not load, from the file alone."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from infer_backends.plugin import (
    Deadline,
    DeadlineExceeded,
    InferError,
    InvalidURL,
    MissingDependency,
    ModelClosed,
    ModelMetadata,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    SupportsDescription,
    Unavailable,
)
from infer_backends_onnxruntime import plugin
from tests.onnxruntime import models
from tests.onnxruntime.conftest import OpenBackend, Save


def told(path: Path, deadline: Deadline | None = None, **options: Any) -> ModelMetadata | None:
    """What the plugin's hook says of a file."""
    values = {option.name: option.default for option in plugin.infer_backends_options()}
    given = OpenOptions({**values, **options}, deadline=deadline or Deadline.after(60))
    return plugin.infer_backends_metadata(ModelURL(scheme="onnx", path=str(path)), given)


def labelled() -> onnx.ModelProto:
    """The file says which classes there are."""
    model = models.identity()
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}"})
    return model


def sparse_weight() -> onnx.ModelProto:
    """``y`` is x + ``b``, listed as an input, whose value in the file is sparse."""
    model = models.overridable()
    dense = model.graph.initializer.pop()
    values = helper.make_tensor(dense.name, TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("at", TensorProto.INT64, [2], [0, 3])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return model


def inferred() -> onnx.ModelProto:
    """The file leaves ``y`` open; it can be worked out to be [2, 4]."""
    return models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.tensor("x", (2, 4))],
        [models.tensor("y", ("n", None))],
    )


def noted() -> onnx.ModelProto:
    model = models.arithmetic()
    model.model_version = 7
    helper.set_model_props(model, {"author": "Ada", "classes": "['é']"})
    return model


TOLD: dict[str, Callable[[], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        models.arithmetic,
        models.total,
        models.aliases,
        models.overridable,
        models.gather,
        models.reshape,
        models.to_number,
        models.broken_text,
        models.loop,
        models.projection,
        models.convolution,
        sparse_weight,
        noted,
        inferred,
        labelled,
    )
}
TOLD |= {name: partial(models.identity, element) for name, element in models.ELEMENTS.items()}
TOLD |= {
    str(shape): partial(models.identity, shape=shape)
    for shape in [(), (0,), (-1, 4), (None, "n", 3), (1, 2, 3, 4, 5), (2**40,)]
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_is_what_the_opened_model_says(
    save: Save, open_backend: OpenBackend, name: str
) -> None:
    path = save(TOLD[name]())
    metadata = told(path, device="cpu")
    opened = open_backend(path, device="cpu").metadata
    assert metadata is not None
    assert (metadata.name, metadata.versions, metadata.platform, metadata.parameters) == (
        opened.name,
        opened.versions,
        opened.platform,
        opened.parameters,
    )
    assert metadata.inputs == opened.inputs
    if name == "inferred":
        assert [spec.shape for spec in metadata.outputs] == [(-1, -1)]
    else:
        assert metadata.outputs == opened.outputs


def no_type() -> onnx.ModelProto:
    model = models.identity()
    model.graph.input[0].ClearField("type")
    return model


def twice() -> onnx.ModelProto:
    model = models.identity()
    model.graph.output.append(model.graph.output[0])
    return model


def nothing_comes_out() -> onnx.ModelProto:
    model = models.identity()
    del model.graph.output[:]
    return model


DOUBTFUL: dict[str, Callable[[], onnx.ModelProto]] = {
    "input of unknown rank": lambda: models.identity(shape=None),
    "output of unknown rank": lambda: models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.tensor("x")],
        [models.tensor("y", None)],
    ),
    "sequence": models.sequence_output,
    "optional": models.optional_input,
    "bfloat16": lambda: models.identity(TensorProto.BFLOAT16),
    "complex64": lambda: models.identity(TensorProto.COMPLEX64),
    "no type": no_type,
    "twice": twice,
    "nothing comes out": nothing_comes_out,
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_nothing_is_told_of_a_model_that_only_opening_can_tell(save: Save, name: str) -> None:
    assert told(save(DOUBTFUL[name]())) is None


def test_nothing_is_told_of_what_is_no_model(save: Save) -> None:
    path = save(models.identity())
    encoded = path.read_bytes()
    for text in (b"", b"# not a model\n", encoded[:-1], encoded + encoded, encoded + b"\x3a\x00"):
        path.write_bytes(text)
        assert told(path) is None


def test_a_device_that_is_chosen_later_is_not_named(save: Save) -> None:
    metadata = told(save(models.identity()), device="auto")
    assert metadata is not None
    assert metadata.platform == "onnxruntime"


def varint(value: int) -> bytes:
    high = b""
    while value >= 0x80:
        high += bytes([value & 0x7F | 0x80])
        value >>= 7
    return high + bytes([value])


def test_weights_are_skipped_however_large_they_are(save: Save) -> None:
    """The file is a hole of many gigabytes, more than any memory."""
    model = models.overridable()
    weight = model.graph.initializer.pop()
    weight.ClearField("raw_data")
    size = 1 << 36
    tensor = weight.SerializeToString() + b"\x4a" + varint(size)
    entry = b"\x2a" + varint(len(tensor) + size) + tensor
    graph = model.graph.SerializeToString() + entry
    model.ClearField("graph")
    path = save(model)
    with path.open("ab") as file:
        file.write(b"\x3a" + varint(len(graph) + size) + graph)
        file.truncate(file.tell() + size)
    metadata = told(path)
    assert metadata is not None
    assert [spec.name for spec in metadata.inputs] == ["x"]


def test_telling_imports_no_runtime(save: Save) -> None:
    path = save(models.identity())
    program = (
        "import sys\n"
        "from infer_backends.plugin import Deadline, ModelURL, OpenOptions\n"
        "from infer_backends_onnxruntime import plugin\n"
        "values = {o.name: o.default for o in plugin.infer_backends_options()}\n"
        "options = OpenOptions(values, deadline=Deadline.after(60))\n"
        f"url = ModelURL(scheme='onnx', path={str(path)!r})\n"
        "assert plugin.infer_backends_metadata(url, options) is not None\n"
        "print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def errors_of(path: Path, open_backend: OpenBackend, **options: Any) -> list[InferError]:
    """What is raised when the model is asked about, and when it is opened."""
    with pytest.raises(InferError) as telling:
        told(path, **options)
    with pytest.raises(InferError) as opening:
        open_backend(path, **options)
    return [telling.value, opening.value]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"device": "tpu"}, InvalidURL),
        ({"threads": 5000}, InvalidURL),
        ({"device": "cuda:999"}, InferError),
        ({"device": "tensorrt:999"}, InferError),
    ],
)
def test_what_keeps_a_model_from_being_opened_is_told_before(
    save: Save, open_backend: OpenBackend, options: dict[str, Any], kind: type[InferError]
) -> None:
    telling, opening = errors_of(save(models.identity()), open_backend, **options)
    assert isinstance(telling, kind)
    assert (type(telling), str(telling)) == (type(opening), str(opening))


def test_a_file_that_is_not_there_is_told_of(tmp_path: Path, open_backend: OpenBackend) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        telling, opening = errors_of(path, open_backend)
        assert type(telling) is ModelNotFound
        assert str(telling) == str(opening)


def test_a_deadline_that_has_passed_reads_nothing(save: Save) -> None:
    with pytest.raises(DeadlineExceeded):
        told(save(models.identity()), Deadline.after(0))


def test_a_runtime_that_is_not_installed_is_told_of(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", nothing)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install"):
        told(save(models.identity()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts what is open in /proc")
def test_a_process_without_descriptors_finds_the_file_unavailable_and_not_missing(
    save: Save, open_backend: OpenBackend
) -> None:
    import resource

    path = save(models.identity())
    open_backend(path).close()  # all that is imported is imported
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    kept: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        try:
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as exc:
            assert exc.errno == errno.EMFILE
        with pytest.raises(Unavailable, match="ulimit") as caught:
            open_backend(path)
    finally:
        for descriptor in kept:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.unprocessed
    assert open_backend(path).metadata.name == "model"


def test_an_open_model_describes_itself_until_it_is_closed(
    save: Save, open_backend: OpenBackend
) -> None:
    backend = open_backend(models.identity())
    assert isinstance(backend, SupportsDescription)
    assert backend.describe(Deadline.after(1)) == backend.metadata
    backend.close()
    with pytest.raises(ModelClosed):
        backend.describe(Deadline.after(1))
