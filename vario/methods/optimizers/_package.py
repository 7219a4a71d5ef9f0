"""The door to ``pytorch_optimizer``: imported on first use, with a clear message where it is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

TESTED = "4.1"


def pytorch_optimizer(wanted: str) -> ModuleType:
    """The package, once it holds ``wanted``; ImportError says how to get it."""
    try:
        package = importlib.import_module("pytorch_optimizer")
    except ImportError as error:
        raise ImportError(
            f"{wanted} is kept in the package pytorch_optimizer (tested with {TESTED}), which cannot be "
            f"imported "
            f"here ({error}). Install it with: pip install 'vario[methods]'"
        ) from error
    if wanted not in package.__dict__:
        raise ImportError(f"this pytorch_optimizer has no {wanted}; vario is tested with {TESTED}.")
    return package
