"""The class of every example of a script's data set: where data sets keep it, else example by example."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["labels_of"]

NAMES = ("targets", "labels", "y", "target", "label", "class")
MOST_READ = 100_000  # examples that are read one by one: reading them may be what training spends its time on
MOST_CLASSES = 10_000


def labels_of(dataset: Any) -> Tensor:
    """The class of each example, int64 (n,); raises ValueError with the reason where there is none."""
    inner, indices = dataset, None
    while type(inner).__name__ == "Subset":
        held = torch.as_tensor(inner.indices)
        indices = held if indices is None else held[indices]
        inner = inner.dataset
    kept = _kept(inner)
    if kept is None:
        return _classes([_label(dataset[place]) for place in range(_readable(dataset))], dataset)
    kept = kept.tolist() if isinstance(kept, Tensor | np.ndarray) else list(kept)
    return _classes(kept if indices is None else [kept[place] for place in indices.tolist()], dataset)


def _kept(dataset: Any) -> Any:
    """The labels of all examples, where the data set has them at hand; None where not."""
    for name in NAMES[:3]:
        found = getattr(dataset, name, None)
        with contextlib.suppress(TypeError):  # no len: not the labels of examples
            if found is not None and len(found) == len(dataset):
                return found
    tensors: Any = getattr(dataset, "tensors", ())
    return tensors[1] if len(tensors) > 1 else None


def _readable(dataset: Any) -> int:
    if len(dataset) > MOST_READ:
        raise ValueError(
            f"{type(dataset).__name__} shows no labels (no attribute {', '.join(NAMES[:3])} or tensors), and "
            f"its {len(dataset):,} examples are too many to be read one by one"
        )
    return len(dataset)


def _label(example: Any) -> Any:
    """The second part of a pair, or what a mapping calls so."""
    if isinstance(example, Mapping):
        for name in NAMES:
            if name in example:
                return example[name]
    elif isinstance(example, list | tuple) and len(example) > 1:
        return example[1]
    raise ValueError(
        f"an example of the data set is {type(example).__name__}; neither a pair (input, label) nor a "
        f"mapping with one of {', '.join(NAMES)}"
    )


def _classes(labels: list[Any], dataset: Any) -> Tensor:
    """Numbers of classes from labels that are whole numbers, or names."""
    plain = [_single(label) for label in labels]
    if all(isinstance(label, str) for label in plain):
        order = {name: place for place, name in enumerate(sorted(set(plain)))}
        plain = [order[label] for label in plain]
    whole = all(
        isinstance(label, int | float) and float(label).is_integer() and label >= 0 for label in plain
    )
    if not plain or not whole or len(set(plain)) > MOST_CLASSES:
        raise ValueError(
            f"the labels of {type(dataset).__name__} are not one class for each example; the first is "
            f"{str(plain[0] if plain else None)[:80]}"
        )
    return torch.tensor([int(label) for label in plain])


def _single(label: Any) -> Any:
    """A label as a plain number, from arrays of one element too."""
    label = label.tolist() if isinstance(label, Tensor | np.ndarray | np.generic) else label
    while isinstance(label, list) and len(label) == 1:
        label = label[0]
    return label
