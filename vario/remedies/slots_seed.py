"""Seeds: every seed that the script sets is moved by the offset of the pair, in both arms alike.

Moved are ``torch.manual_seed`` (with its CUDA relatives), ``random.seed``, ``numpy.random.seed``,
``torch.Generator().manual_seed`` and ``numpy.random.default_rng(seed)``. Left alone are generators that a
script builds by another way: ``random.Random(seed)``, ``numpy.random.RandomState(seed)``.

At the start the generators of Python, numpy and torch are seeded with the offset, and so is an unseeded
``default_rng()``: a script that never seeds is then the same run in both arms (each process draws its own
seeds, torch's too). With the offset 0 a script that seeds everything itself is bit for bit the bare script.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vario.remedies.slots_told import Told, call_site

__all__ = ["shift_seeds"]


def shift_seeds(offset: int, told: Told) -> str:
    """Seed what nobody seeds, and move all seeds from here on by ``offset``."""
    random.seed(offset)
    np.random.seed(offset)
    torch.manual_seed(offset)
    _unseeded_default_rng(offset)
    if offset:
        _shift_functions(offset, told)
        _shift_generators(offset, told)
    told.put_in(
        "seed",
        {"offset": offset, "what": "started the generators of python, numpy and torch with the offset"},
    )
    return f"seed: offset {offset}"


def _shift_functions(offset: int, told: Told) -> None:
    depth = [0]  # torch.manual_seed calls those of its devices

    def shifted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def seed(value: Any = None, *args: Any, **words: Any) -> Any:
            for word in ("seed", "a"):  # random.seed(a=3)
                value = words.pop(word, value)
            if value is not None and not depth[0]:
                told.put_in(
                    "seed", {"offset": offset, "what": f"{name} is moved by the offset", "call": call_site()}
                )
                value = _moved(value, offset)
            depth[0] += 1
            try:
                return original(value, *args, **words)
            finally:
                depth[0] -= 1

        return seed

    torch.manual_seed = torch.random.manual_seed = shifted("torch.manual_seed", torch.manual_seed)
    for owner, names in ((torch.cuda, ("manual_seed", "manual_seed_all")), (torch.mps, ("manual_seed",))):
        for name in names:
            setattr(owner, name, shifted(f"{owner.__name__}.{name}", getattr(owner, name)))
    random.seed = shifted("random.seed", random.seed)
    np.random.seed = shifted("numpy.random.seed", np.random.seed)


def _shift_generators(offset: int, told: Told) -> None:
    plain = torch.Generator

    class Alike(type(plain)):  # type: ignore[misc]
        """Generators that torch makes itself are of the class as well."""

        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, plain)

    class Generator(plain, metaclass=Alike):  # type: ignore[misc, valid-type]
        """torch.Generator with its seeds moved."""

        def manual_seed(self, seed: int) -> Any:
            told.put_in(
                "seed",
                {"offset": offset, "what": "torch.Generator is moved by the offset", "call": call_site()},
            )
            return super().manual_seed(_moved(seed, offset))

    Generator.__module__, Generator.__qualname__ = plain.__module__, plain.__qualname__
    torch.Generator = Generator  # type: ignore[misc]


def _unseeded_default_rng(offset: int) -> None:
    original, counted = np.random.default_rng, itertools.count()

    @functools.wraps(original)
    def default_rng(seed: Any = None) -> Any:
        if seed is None:
            return original([offset, next(counted)])
        return original(_moved(seed, offset)) if offset else original(seed)

    np.random.default_rng = default_rng


def _moved(seed: Any, offset: int) -> Any:
    """The seed plus the offset; what is no number (a SeedSequence, a text) is left alone."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        if isinstance(seed, list | tuple) and all(isinstance(part, int) for part in seed):
            return [*seed, offset]
        return seed
    return int(seed) + offset
