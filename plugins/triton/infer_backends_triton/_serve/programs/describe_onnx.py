"""Says what each of some ONNX files takes and gives, as JSON."""

import json
import sys

import onnxruntime


def describe(path: str) -> dict[str, object]:
    """The inputs and outputs of the file at ``path``, or why onnxruntime cannot load it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # noqa: BLE001 - its classes have no common base of their own
        return {"error": str(exc)}
    described: dict[str, object] = {
        role: [{"name": node.name, "type": node.type, "shape": node.shape} for node in nodes]
        for role, nodes in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    described["notes"] = {
        name: text
        for name, text in notes(session).items()
        if name == "names" or name.startswith("labels")
    }
    return described


def notes(session: onnxruntime.InferenceSession) -> dict[str, str]:
    """What the author of an open model wrote down; nothing where that is no text."""
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError:
        return {}


if __name__ == "__main__":
    sys.stdout.write(json.dumps([describe(path) for path in sys.argv[1:]]))
