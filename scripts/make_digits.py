"""Make the digits that ``infer-backends demo`` shows: a small model, and images it never saw.

Run it from the root of the repository, with scikit-learn and onnx installed::

    python scripts/make_digits.py

It writes ``digits.onnx`` and ``digits.npz`` into ``infer_backends/_cli/_demo_data``. The split
and the training are seeded. The images come out byte for byte the same everywhere; the weights do
on one machine, and elsewhere to within the rounding of the linear algebra library.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parents[1] / "infer_backends" / "_cli" / "_demo_data"
SEED = 7
HELD_OUT = 0.3
PIXELS, CLASSES, HIDDEN = 64, 10, 64
FLOOR = 0.97

# Opset 13 and IR version 7 are read by every onnxruntime since 1.6.
OPSET, IR_VERSION = 13, 7

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """A network of one hidden layer.

    Attributes:
        hidden: Of shape (PIXELS, HIDDEN), for pixels from 0 to 16.
        hidden_bias: Of shape (HIDDEN,).
        output: Of shape (HIDDEN, CLASSES).
        output_bias: Of shape (CLASSES,).
    """

    hidden: Floats
    hidden_bias: Floats
    output: Floats
    output_bias: Floats


class Digits(NamedTuple):
    """Handwritten digits: images (n, 64) from 0 to 16, row by row, and labels (n,), all uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def split_digits() -> tuple[Digits, Digits]:
    """The digits to train on, and those held out: the same number of every class in both."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train, held, train_labels, held_labels = train_test_split(
        images.astype(np.uint8),
        labels.astype(np.uint8),
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=labels,
    )
    return Digits(train, train_labels), Digits(held, held_labels)


def train(digits: Digits) -> Weights:
    """Train the network on standardised pixels, and fold the standardisation into its weights."""
    from sklearn.neural_network import MLPClassifier

    pixels = digits.images.astype(np.float64)
    mean = pixels.mean(axis=0)
    # Some pixels never change: they say nothing, whatever they are divided by.
    scale = np.where(pixels.std(axis=0) > 0, pixels.std(axis=0), 1.0)
    network = MLPClassifier((HIDDEN,), alpha=1.0, solver="lbfgs", max_iter=1000, random_state=SEED)
    network.fit((pixels - mean) / scale, digits.labels)
    (first, second), (first_bias, second_bias) = network.coefs_, network.intercepts_
    hidden = first / scale[:, None]
    hidden_bias = first_bias - mean @ hidden
    return Weights(
        *(part.astype(np.float32) for part in (hidden, hidden_bias, second, second_bias))
    )


def predict(weights: Weights, images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The digit that the network sees in each image."""
    hidden = np.maximum(images.astype(np.float32) @ weights.hidden + weights.hidden_bias, 0)
    logits = hidden @ weights.output + weights.output_bias
    return np.asarray(np.argmax(logits, axis=1))


def model_bytes(weights: Weights) -> bytes:
    """The ONNX file of a network: ``image`` FP32 [-1, 64] to ``probabilities`` FP32 [-1, 10]."""
    nodes = [
        helper.make_node("Gemm", ["image", "hidden", "hidden_bias"], ["hidden_sum"]),
        helper.make_node("Relu", ["hidden_sum"], ["hidden_out"]),
        helper.make_node("Gemm", ["hidden_out", "output", "output_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", PIXELS])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(part, name) for name, part in weights._asdict().items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="infer-backends",
        doc_string="Handwritten digits of 8 x 8 pixels from 0 to 16, to the probability of each.",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def read_weights(model: bytes) -> Weights:
    """The weights that ``model_bytes`` put into a file."""
    tensors = onnx.load_model_from_string(model).graph.initializer
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    return Weights(**arrays)


def digits_bytes(digits: Digits) -> bytes:
    """The ``.npz`` file of some digits; without times of day, unlike most archives."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in digits._asdict().items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, member.getvalue())
    return archive.getvalue()


def main() -> None:
    """Write both files, unless the model is worse than it has to be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write the files")
    folder: Path = parser.parse_args().folder
    seen, held = split_digits()
    weights = train(seen)
    accuracy = float(np.mean(predict(weights, held.images) == held.labels))
    if accuracy < FLOOR:
        raise SystemExit(f"accuracy {accuracy:.2%} on the held-out digits is below {FLOOR:.0%}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.onnx").write_bytes(model_bytes(weights))
    (folder / "digits.npz").write_bytes(digits_bytes(held))
    print(f"{accuracy:.2%} of {len(held.labels)} held-out digits are right")


if __name__ == "__main__":
    main()
