"""A model over a data set, by Ray Data on any number of machines.

``python examples/ray_data.py URL IMAGES.npz`` classifies the digits of a file by the model at URL,
twice: by a pool of actors that open the model once each, and by a function that holds a model.
Here the machines are this one alone, and nothing listens but on its loopback address; on a cluster,
``start`` is ``ray.init(address="auto")``.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

# Ray reads these when it is imported. The second has it listen on the loopback address only, on
# Linux as it does elsewhere: by default a local Ray listens on every address of the machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import numpy as np
import ray
import ray.data

import infer_backends as ib

Batch = dict[str, Any]


class Classify:
    """An actor: opens the model when it begins, and keeps it for all its batches."""

    def __init__(self, url: str) -> None:
        self._model = ib.open_model(url)

    def __call__(self, batch: Batch) -> Batch:
        """The digit of every image."""
        return {"digit": self._model(batch["image"]).argmax(axis=1), "label": batch["label"]}


def classify(model: ib.Model, batch: Batch) -> Batch:
    """The same by a function: the model that it holds is opened again where it runs."""
    return {"digit": model(batch["image"]).argmax(axis=1), "label": batch["label"]}


def accuracy(digits: ray.data.Dataset) -> float:
    """How many are right; batch by batch, so that the results need not fit in memory."""
    right = total = 0
    for batch in digits.iter_batches(batch_size=256):
        right += int((batch["digit"] == batch["label"]).sum())
        total += len(batch["label"])
    return right / total


def start() -> None:
    """Begin a Ray on this machine: two cores, little memory, no dashboard."""
    ray.init(
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False


def images_of(path: str) -> ray.data.Dataset:
    """The images of a file; a data set of many files would be read where it is worked on."""
    with np.load(path) as file:
        pairs = zip(file["images"], file["labels"], strict=True)
        rows = [{"image": image, "label": label} for image, label in pairs]
    return ray.data.from_items(rows, override_num_blocks=4)


def main(url: str, path: str) -> None:
    """Classify all images of a file, in two ways."""
    start()
    try:
        images = images_of(path)
        actors = ray.data.ActorPoolStrategy(size=2)
        by_actors = images.map_batches(
            Classify, fn_constructor_args=(url,), compute=actors, batch_size=64
        )
        print(f"actors: {accuracy(by_actors):.3f} are right")
        with ib.open_model(url) as model:
            by_function = images.map_batches(partial(classify, model), batch_size=64)
            print(f"function: {accuracy(by_function):.3f} are right")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
