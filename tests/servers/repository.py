"""A model repository for a real Triton: a small model for each thing that a client must get right.

Every model is in Python. ``python -m tests.servers.repository PATH`` writes it for use by hand.

==================  ==========================================================================
model               what it does
==================  ==========================================================================
identity_DTYPE      INPUT [-1, -1] -> OUTPUT, for every datatype in lower case (identity_bf16)
reference_bf16      x BF16 [-1, -1] -> y, the reference model identity_bf16
identity_1d         INPUT FP32 [-1] -> OUTPUT
batching            INPUT FP32 [-1, 3] -> OUTPUT, max_batch_size 4, dynamic batching
batching_bytes      INPUT BYTES [-1, 2] -> OUTPUT, max_batch_size 4
add_sub             b, a INT32 [-1, 4] -> sum = b + a, difference = b - a, max_batch_size 8
optional            INPUT FP32 [-1], optional BIAS FP32 [1] -> OUTPUT = INPUT + BIAS (or + 0)
slow                SECONDS FP32 [1] -> OUTPUT, the same, after so many seconds
delayed             INPUT FP32 [-1], SECONDS FP32 [1] -> OUTPUT = INPUT, after so many seconds;
                    two calls at a time
failing             KIND BYTES [1]: "exception", "error", "invalid", "unavailable",
                    "not found"; anything else comes back as OUTPUT
crashing            INPUT FP32 [-1]; the first call ends its process, and its model for good
parameters          INPUT FP32 [-1] -> OUTPUT; its config has the parameter ``metadata``
versions            INPUT FP32 [-1] -> OUTPUT = INPUT times the version, 1 or 2
decoupled           COUNT INT32 [1] -> as many responses, token INT32 [1] = 0, 1, ...
generating          the same; with optional SECONDS FP32 [1] before each, FAIL BYTES [1], the error
                    after the last, and MARK BYTES [1], a file that is told "cancelled" or "done"
scalar              INPUT FP32 [-1, 1], in the model [-1] -> OUTPUT INT64 [-1, 1], the rank seen
                    (config ``reshape``, which Triton allows with batching only; batches of 8)
big                 COUNT INT64 [1] -> OUTPUT UINT8 [-1], so many bytes, i % 251
sequence            INPUT INT32 [1] -> OUTPUT INT32 [1], the sum so far of its sequence
accumulator         the same, for eight sequences at a time, each told by its id; and OPEN INT32
                    [1], how many have not ended
queued              SECONDS FP32 [-1, 1] -> TURN INT32 [-1, 1], how many were answered before, one
                    at a time, after so many seconds; two levels of priority, 2 by default; a
                    request may say how long it waits in the queue; optional MARK BYTES [-1, 1], a
                    file that is made when its turn has come
labels              INPUT FP32 [-1, 3] -> OUTPUT, with the labels cat, dog, owl; batches of 8
==================  ==========================================================================
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

DTYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16", "BYTES",
)  # fmt: skip

#: What the config parameter ``metadata`` of the model ``parameters`` holds.
METADATA = '{"names": {"0": "cat", "1": "dog"}, "imgsz": [640, 640], "task": "detect"}'

_HEADER = """\
import numpy as np
import triton_python_backend_utils as pb_utils


def tensor(request, name):
    found = pb_utils.get_input_tensor_by_name(request, name)
    return None if found is None else found.as_numpy()


def answer(**outputs):
    return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in outputs.items()])

"""

_EACH = (
    _HEADER
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
{body}
"""
)

_IDENTITY = 'return answer(OUTPUT=tensor(request, "INPUT"))'

# The backend has no NumPy form of BF16, but passes it on through DLPack.
_IDENTITY_BF16 = """\
found = pb_utils.get_input_tensor_by_name(request, "INPUT")
return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT", found)])"""

_ADD_SUB = """\
a, b = tensor(request, "a"), tensor(request, "b")
return answer(sum=b + a, difference=b - a)"""

_OPTIONAL = """\
value, bias = tensor(request, "INPUT"), tensor(request, "BIAS")
return answer(OUTPUT=value if bias is None else value + bias)"""

_SLOW = """\
import time
seconds = tensor(request, "SECONDS")
time.sleep(float(seconds[0]))
return answer(OUTPUT=seconds)"""

_DELAYED = """\
import time
time.sleep(float(tensor(request, "SECONDS")[0]))
return answer(OUTPUT=tensor(request, "INPUT"))"""

_FAILING = """\
kind = tensor(request, "KIND")
codes = {
    b"invalid": pb_utils.TritonError.INVALID_ARG,
    b"unavailable": pb_utils.TritonError.UNAVAILABLE,
    b"not found": pb_utils.TritonError.NOT_FOUND,
}
if kind[0] == b"exception":
    raise ValueError("the model raised a plain exception")
if kind[0] == b"error":
    raise pb_utils.TritonModelException("the model raised a TritonModelException")
if kind[0] in codes:
    error = pb_utils.TritonError("the model answered with a code", codes[kind[0]])
    return pb_utils.InferenceResponse([], error)
return answer(OUTPUT=kind)"""

_CRASHING = """\
import os
os._exit(1)"""

_VERSIONS = 'return answer(OUTPUT=tensor(request, "INPUT") * np.float32(self.version))'

_SCALAR = """\
value = tensor(request, "INPUT")
return answer(OUTPUT=np.full(value.shape, value.ndim, dtype=np.int64))"""

_BIG = """\
count = int(tensor(request, "COUNT")[0])
return answer(OUTPUT=(np.arange(count, dtype=np.int64) % 251).astype(np.uint8))"""

_DECOUPLED = (
    _HEADER
    + """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for i in range(int(tensor(request, "COUNT")[0])):
                if sender.is_cancelled():
                    break
                sender.send(answer(token=np.array([i], dtype=np.int32)))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)

_GENERATING = (
    _HEADER
    + """
import time


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            outcome = self.generate(request, sender)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            mark = tensor(request, "MARK")
            if mark is not None:
                with open(mark[0].decode(), "w") as file:
                    file.write(outcome)

    def generate(self, request, sender):
        seconds, fail = tensor(request, "SECONDS"), tensor(request, "FAIL")
        for i in range(int(tensor(request, "COUNT")[0])):
            end = time.monotonic() + (0 if seconds is None else float(seconds[0]))
            while time.monotonic() < end and not sender.is_cancelled():
                time.sleep(0.005)
            if sender.is_cancelled():
                return "cancelled"
            sender.send(answer(token=np.array([i], dtype=np.int32)))
        if fail is not None:
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(fail[0].decode())))
        return "done"
"""
)

_SEQUENCE = (
    _HEADER
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.total = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            if tensor(request, "START").any():
                self.total = 0
            value = tensor(request, "INPUT")
            self.total += int(value.sum())
            responses.append(answer(OUTPUT=np.full_like(value, self.total)))
        return responses
"""
)

_ACCUMULATOR = (
    _HEADER
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.totals = {}

    def execute(self, requests):
        return [self.step(request) for request in requests]

    def step(self, request):
        sequence = int(tensor(request, "ID").ravel()[0])
        if tensor(request, "START").any():
            self.totals[sequence] = 0
        value = tensor(request, "INPUT")
        self.totals[sequence] += int(value.sum())
        total = np.full_like(value, self.totals[sequence])
        if tensor(request, "END").any():
            del self.totals[sequence]
        return answer(OUTPUT=total, OPEN=np.full_like(value, len(self.totals)))
"""
)

_QUEUED = (
    _HEADER
    + """
import time


class TritonPythonModel:
    def initialize(self, args):
        self.turn = 0

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        seconds, mark = tensor(request, "SECONDS"), tensor(request, "MARK")
        if mark is not None:
            open(mark.ravel()[0].decode(), "w").close()
        time.sleep(float(seconds.max()))
        self.turn += 1
        return answer(TURN=np.full(seconds.shape, self.turn - 1, dtype=np.int32))
"""
)

_CONTROLS = (
    "max_batch_size: 8 sequence_batching { max_sequence_idle_microseconds: 60000000 "
    "oldest { max_candidate_sequences: 8 } control_input [ "
    + ", ".join(
        f'{{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{kind} {form} }} ] }}'
        for name, kind, form in (
            ("START", "START", "int32_false_true: [ 0, 1 ]"),
            ("END", "END", "int32_false_true: [ 0, 1 ]"),
            ("ID", "CORRID", "data_type: TYPE_UINT64"),
        )
    )
    + " ] }"
)

Tensor = tuple[str, str, Sequence[int]]


def write_repository(root: Path, only: Collection[str] = ()) -> Path:
    """Write the models, or only those named, under ``root``, which is made; returns ``root``."""
    for dtype in DTYPES:
        body = _IDENTITY_BF16 if dtype == "BF16" else _IDENTITY
        _write_identity(root, f"identity_{dtype.lower()}", dtype, (-1, -1), body=body)
    tensors = [("x", "BF16", (-1, -1))], [("y", "BF16", (-1, -1))]
    body = _IDENTITY_BF16.replace("INPUT", "x").replace("OUTPUT", "y")
    _write(root, "reference_bf16", *tensors, body)
    _write_identity(root, "identity_1d", "FP32", (-1,))
    _write_identity(root, "batching", "FP32", (3,), "max_batch_size: 4 dynamic_batching { }")
    _write_identity(root, "batching_bytes", "BYTES", (2,), "max_batch_size: 4")
    _write_identity(root, "parameters", "FP32", (-1,), _parameter("metadata", METADATA))
    _write_identity(
        root, "versions", "FP32", (-1,), "version_policy { all { } }", _VERSIONS, versions=(1, 2)
    )
    _write_identity(root, "crashing", "FP32", (-1,), body=_CRASHING)
    _write_labels(root)
    _write_delayed(root)
    _write_special(root)
    for model in root.iterdir():
        if only and model.name not in only:
            shutil.rmtree(model)
    return root


def write_one_by_one(root: Path) -> Path:
    """Write the identity models as ones that take a single row at a time; returns ``root``."""
    for dtype in DTYPES:
        body = _IDENTITY_BF16 if dtype == "BF16" else _IDENTITY
        name = f"identity_{dtype.lower()}"
        _write_identity(root, name, dtype, (-1,), "max_batch_size: 1", body=body)
    return root


def _write_special(root: Path) -> None:
    _write(
        root,
        "add_sub",
        [("b", "INT32", (4,)), ("a", "INT32", (4,))],
        [("sum", "INT32", (4,)), ("difference", "INT32", (4,))],
        _ADD_SUB,
        "max_batch_size: 8",
    )
    _write(
        root,
        "optional",
        [("INPUT", "FP32", (-1,)), ("BIAS?", "FP32", (1,))],
        [("OUTPUT", "FP32", (-1,))],
        _OPTIONAL,
    )
    _write(root, "slow", [("SECONDS", "FP32", (1,))], [("OUTPUT", "FP32", (1,))], _SLOW)
    _write(root, "failing", [("KIND", "BYTES", (1,))], [("OUTPUT", "BYTES", (1,))], _FAILING)
    scalar = [("INPUT=", "FP32", (1,))], [("OUTPUT=", "INT64", (1,))]
    _write(root, "scalar", *scalar, _SCALAR, "max_batch_size: 8")
    _write(root, "big", [("COUNT", "INT64", (1,))], [("OUTPUT", "UINT8", (-1,))], _BIG)
    _write(
        root,
        "decoupled",
        [("COUNT", "INT32", (1,))],
        [("token", "INT32", (1,))],
        _DECOUPLED,
        "model_transaction_policy { decoupled: true }",
    )
    _write(
        root,
        "generating",
        [
            ("COUNT", "INT32", (1,)),
            ("SECONDS?", "FP32", (1,)),
            ("FAIL?", "BYTES", (1,)),
            ("MARK?", "BYTES", (1,)),
        ],
        [("token", "INT32", (1,))],
        _GENERATING,
        "model_transaction_policy { decoupled: true }",
    )
    _write(
        root,
        "sequence",
        [("INPUT", "INT32", (1,))],
        [("OUTPUT", "INT32", (1,))],
        _SEQUENCE,
        "max_batch_size: 1 sequence_batching { max_sequence_idle_microseconds: 60000000 "
        'control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START '
        "int32_false_true: [ 0, 1 ] } ] } ] }",
    )

    _write(
        root,
        "accumulator",
        [("INPUT", "INT32", (1,))],
        [("OUTPUT", "INT32", (1,)), ("OPEN", "INT32", (1,))],
        _ACCUMULATOR,
        _CONTROLS,
    )
    _write(
        root,
        "queued",
        [("SECONDS", "FP32", (1,)), ("MARK?", "BYTES", (1,))],
        [("TURN", "INT32", (1,))],
        _QUEUED,
        "max_batch_size: 1 dynamic_batching { priority_levels: 2 default_priority_level: 2 "
        "default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 60000000 "
        "allow_timeout_override: true } }",
    )


def _write_identity(
    root: Path,
    name: str,
    dtype: str,
    dims: Sequence[int],
    settings: str = "",
    body: str = _IDENTITY,
    versions: Sequence[int] = (1,),
) -> None:
    tensors = [("INPUT", dtype, dims)], [("OUTPUT", dtype, dims)]
    _write(root, name, *tensors, body, settings, versions)


def _write_delayed(root: Path) -> None:
    inputs = [("INPUT", "FP32", (-1,)), ("SECONDS", "FP32", (1,))]
    _write(root, "delayed", inputs, [("OUTPUT", "FP32", (-1,))], _DELAYED)
    config = root / "delayed" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 2"))


def _write_labels(root: Path) -> None:
    _write_identity(root, "labels", "FP32", (3,), "max_batch_size: 8")
    config = root / "labels" / "config.pbtxt"
    config.write_text(
        config.read_text().replace("output [ { ", 'output [ { label_filename: "l.txt" ')
    )
    (root / "labels" / "l.txt").write_text("cat\ndog\nowl\n")


def _write(
    root: Path,
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    code: str,
    settings: str = "",
    versions: Sequence[int] = (1,),
) -> None:
    """Write one model; ``code`` is a body of ``respond``, or a whole module."""
    if "class TritonPythonModel" not in code:
        code = _EACH.replace("{body}", "\n".join("        " + line for line in code.splitlines()))
    if "max_batch_size" not in settings:
        settings += " max_batch_size: 0"
    config = (
        f'name: "{name}" backend: "python" {settings}\n'
        f"input [ {', '.join(map(_tensor, inputs))} ]\n"
        f"output [ {', '.join(map(_tensor, outputs))} ]\n"
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )
    folder = root / name
    for version in versions:
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
        (folder / str(version) / "model.py").write_text(code)
    (folder / "config.pbtxt").write_text(config)


def _tensor(tensor: Tensor) -> str:
    """The config of a tensor; after its name, ``?`` is optional, ``=`` reshaped to ``[]``."""
    name, dtype, dims = tensor
    datatype = "STRING" if dtype == "BYTES" else dtype
    text = f'name: "{name.rstrip("?=")}" data_type: TYPE_{datatype} dims: {list(dims)}'
    if name.endswith("?"):
        text += " optional: true"
    if name.endswith("="):
        text += " reshape { shape: [ ] }"
    return "{ " + text + " }"


def _parameter(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'parameters {{ key: "{name}" value {{ string_value: "{escaped}" }} }}'


if __name__ == "__main__":
    write_repository(Path(sys.argv[1]))
