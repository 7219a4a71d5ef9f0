"""The loader slot: batch size, shuffling and samplers of the training loader.

The training loader is the first that is iterated while gradients are recorded, and every later one over
the same data set. A loader that shuffles or has a sampler of its own gets its batch size as soon as it is
built, so that ``len(loader)`` is right from the start; others when they are iterated.
Samplers go into the innermost batch sampler, under what accelerate and Lightning put around it. Batches
that come from a function of the script have no loader and cannot be reached.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    dataloader,
)

from vario.remedies.slots_built import same_chance, when_built
from vario.remedies.slots_stream import Stream
from vario.remedies.slots_told import Told, call_site

__all__ = ["Batch", "Loaders"]

NewSampler = Callable[[Any, Any, int, int], Any]  # loader, old sampler, rank, ranks


class Batch:
    """A batch that was handed out: which examples, its tensors, and what each counted when it was drawn."""

    def __init__(self, indices: list[int], content: Any, sampler: Any, weights: Any) -> None:
        self.indices, self.tensors = indices, list(_tensors(content))
        self.sampler, self.weights = sampler, weights


class Loaders:
    """Everything that is done to the script's data loaders."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch_size: int | None = None
        self.batch_factor = 1.0
        self.drop_last: bool | None = None
        self.shuffle: bool | None = None
        self.drop_broken = False  # examples with a number that is none
        self.sampler: NewSampler | None = None
        self.factory: tuple[str, Callable[..., Any], dict[str, Any]] | None = None
        self.recent: deque[Batch] = deque(maxlen=2)  # accelerate draws one batch ahead
        self._sized: weakref.WeakSet[Any] = weakref.WeakSet()  # batch samplers
        self._done: weakref.WeakSet[Any] = weakref.WeakSet()  # loaders
        self._draws: weakref.WeakSet[Any] = weakref.WeakSet()  # whose sampler drew a seed at each epoch
        self._weighing: weakref.WeakSet[Any] = weakref.WeakSet()  # samplers that weigh what they draw
        self._training: Any = None  # the data set

    def listen(self) -> None:
        """From now on."""
        nothing = "no DataLoader was iterated for training; batches that a function makes have none"
        if self.shuffle is not None or self.batch_size or self.drop_last is not None or self.drop_broken:
            self.told.expects("loader", nothing)
        if self.sampler is not None or (self.factory and self.factory[0] == "sampler"):
            self.told.expects("sampler", nothing)
        if self.factory and self.factory[0] == "loader":
            self.told.expects("loader", nothing)
        when_built(DataLoader, lambda kind: True, self._built)
        self._patch()

    def _patch(self) -> None:
        iterate, following = DataLoader.__iter__, dataloader._BaseDataLoaderIter.__next__
        index, reset = dataloader._BaseDataLoaderIter._next_index, dataloader._BaseDataLoaderIter._reset
        seen: weakref.WeakKeyDictionary[Any, deque[Any]] = weakref.WeakKeyDictionary()
        training_ones: weakref.WeakSet[Any] = weakref.WeakSet()

        def __iter__(loader: Any) -> Any:  # noqa: N807 - it stands for the method of this name
            training = torch.is_grad_enabled() and self._trains(loader)
            if training:
                self._treat(loader)
            iterator = iterate(loader)
            if training:
                training_ones.add(iterator)
                if loader in self._draws:  # as many draws as the script's own sampler made
                    torch.empty((), dtype=torch.int64).random_()
            return iterator

        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands for the method of this name
            content = following(iterator)
            queue = seen.get(iterator)
            if queue:
                indices, weights = queue.popleft()
                content = self._without_broken(content)
                if iterator in training_ones and isinstance(indices, list):
                    sampler = getattr(_innermost(iterator._index_sampler), "sampler", None)
                    self.recent.append(Batch(indices, content, sampler, weights))
            return content

        def _next_index(iterator: Any) -> Any:
            indices = index(iterator)  # type: ignore[no-untyped-call]
            sampler = getattr(_innermost(iterator._index_sampler), "sampler", None)
            weights = sampler.weights(indices) if sampler in self._weighing else None  # type: ignore[union-attr]
            seen.setdefault(iterator, deque()).append((indices, weights))
            return indices

        def _reset(iterator: Any, *args: Any, **words: Any) -> Any:
            seen.pop(iterator, None)
            return reset(iterator, *args, **words)

        DataLoader.__iter__ = __iter__  # type: ignore[method-assign]
        dataloader._BaseDataLoaderIter.__next__ = __next__  # type: ignore[method-assign, assignment]
        dataloader._BaseDataLoaderIter._next_index = _next_index  # type: ignore[method-assign]
        dataloader._BaseDataLoaderIter._reset = _reset  # type: ignore[method-assign, assignment]

    def _without_broken(self, content: Any) -> Any:
        """The batch without the rows that hold a NaN or an infinite number; as it is where none is left."""
        if not (self.drop_broken and torch.is_grad_enabled()):
            return content
        tensors = list(_tensors(content))
        count = len(tensors[0]) if tensors and tensors[0].dim() else 0
        rows = [t for t in tensors if t.dim() and len(t) == count]
        fine = torch.ones(count, dtype=torch.bool)
        for t in rows:
            if t.is_floating_point():
                fine &= torch.isfinite(t).flatten(1).all(1).cpu() if t.dim() > 1 else torch.isfinite(t).cpu()
        self.told.put_in("loader", {"setting": "drop_broken", "call": call_site()})
        if fine.all() or not fine.any():
            return content
        return _mapped(content, lambda t: t[fine.to(t.device)] if any(t is row for row in rows) else t)

    # ---- which loader

    def _built(self, loader: Any) -> None:
        sampler = getattr(loader, "sampler", None)
        plain = type(loader.batch_sampler) is BatchSampler
        if plain and not isinstance(sampler, SequentialSampler | dataloader._InfiniteConstantSampler):
            self._size(loader, loader.batch_sampler)

    def _trains(self, loader: Any) -> bool:
        if self._training is None:
            self._training = loader.dataset
        return loader.dataset is self._training

    # ---- what is done

    def _treat(self, loader: Any) -> None:
        if loader in self._done:
            return
        self._done.add(loader)
        batches = _innermost(loader.batch_sampler)
        if self.factory and self.factory[0] == "loader":
            self._by_factory(loader)
            return
        wants = (self.batch_size, self.drop_last, self.shuffle, self.sampler, self.factory)
        sizes = self.batch_size or self.batch_factor != 1 or self.drop_last is not None
        if not sizes and all(want is None for want in wants):
            return
        slot = "sampler" if self.sampler or self.factory else "loader"
        if (
            batches is None
            or not isinstance(getattr(batches, "sampler", None), object | None)
            or (getattr(batches, "sampler", None) is None)
        ):
            self.told.fail(
                slot, f"the training loader makes its batches by {type(batches).__name__}, not by a sampler"
            )
        if sizes:
            self._size(loader, batches)
        if self.shuffle is not None:
            self._set_shuffle(loader, batches, self.shuffle)
        if self.sampler is not None or self.factory is not None:
            self._set_sampler(loader, batches)

    def _size(self, loader: Any, batches: Any) -> None:
        if batches in self._sized or (self.batch_size is None and self.batch_factor == 1):
            if self.drop_last is not None and getattr(batches, "drop_last", None) is not None:
                batches.drop_last = self.drop_last
                loader.__dict__["drop_last"] = self.drop_last
                self.told.put_in("loader", {"drop_last": self.drop_last, "call": call_site()})
            return
        before = getattr(batches, "batch_size", None)
        if not isinstance(before, int):
            self.told.fail("loader", f"{type(batches).__name__} of the training loader has no batch_size")
        self._sized.add(batches)
        batches.batch_size = self.batch_size or max(1, round(before * self.batch_factor))
        if loader.__dict__.get("batch_size") is not None:  # set past the lock: it is what scripts read
            loader.__dict__["batch_size"] = batches.batch_size
        if self.drop_last is not None:
            batches.drop_last = loader.__dict__["drop_last"] = self.drop_last
        self.told.put_in(
            "loader",
            {"setting": "batch_size", "before": before, "after": batches.batch_size, "call": call_site()},
        )

    def _set_shuffle(self, loader: Any, batches: Any, shuffle: bool) -> None:
        old = batches.sampler
        if isinstance(old, DistributedSampler):
            before, old.shuffle = old.shuffle, shuffle
            self.told.put_in(
                "loader", {"setting": "shuffle", "before": before, "after": shuffle, "call": call_site()}
            )
            return
        known = isinstance(old, RandomSampler | SequentialSampler)
        if not known:
            self.told.fail("loader", f"the training loader has a sampler of its own, {type(old).__name__}")
        random = isinstance(old, RandomSampler)
        if random != shuffle:
            generator = loader.generator
            if shuffle and generator is None:  # the script's own draws stay what they were
                generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
            new: Any = (
                RandomSampler(loader.dataset, generator=generator)
                if shuffle
                else SequentialSampler(loader.dataset)
            )
            self._exchange(loader, batches, new)
        self.told.put_in(
            "loader", {"setting": "shuffle", "before": random, "after": shuffle, "call": call_site()}
        )

    def _set_sampler(self, loader: Any, batches: Any) -> None:
        old, name = batches.sampler, type(batches.sampler).__name__
        whole = isinstance(old, RandomSampler | SequentialSampler | DistributedSampler)
        source = getattr(old, "data_source", loader.dataset)
        if not (whole or name == "SeedableRandomSampler") or len(source) != len(loader.dataset):
            self.told.fail(
                "sampler", f"the script's own {name} chooses the examples; another one would choose others"
            )
        try:
            with same_chance():
                new = self._another_sampler(loader, old)
            iter(new)
        except Exception as error:
            self.told.fail("sampler", f"{type(error).__name__}: {error}")
        self._exchange(loader, batches, new)
        made = new.sampler if isinstance(new, Stream) else new
        self.told.put_in("sampler", {"from": name, "to": type(made).__name__, "call": call_site()})

    def _another_sampler(self, loader: Any, old: Any) -> Any:
        if self.sampler is None:
            _, function, options = self.factory or ("", None, {})
            return function(old, **options) if function else None
        rank, ranks = (old.rank, old.num_replicas) if isinstance(old, DistributedSampler) else (0, 1)
        new = self.sampler(loader, old, rank, ranks)
        weighs = "weights" in dir(new)
        if isinstance(old, RandomSampler) and old.num_samples != len(loader.dataset):
            new = Stream(new, old.num_samples)
        if weighs:
            self._weighing.add(new)
        return new

    def _exchange(self, loader: Any, batches: Any, new: Any) -> None:
        if isinstance(batches.sampler, RandomSampler) and batches.sampler.generator is None:
            self._draws.add(loader)
        if loader.__dict__.get("sampler") is batches.sampler:
            loader.__dict__["sampler"] = new
        batches.sampler = new

    def _by_factory(self, loader: Any) -> None:
        _, function, options = self.factory or ("", None, {})
        try:
            with same_chance():
                made = function(loader, **options) if function else None
            if not isinstance(made, DataLoader):
                raise TypeError(f"the replacement is {made!r}, not a DataLoader")
        except Exception as error:
            self.told.fail("loader", f"{type(error).__name__}: {error}")
        self._done.add(made)
        loader.__dict__.update(made.__dict__)
        self.told.put_in("loader", {"from": type(loader).__name__, "to": type(made).__name__})


def _innermost(batches: Any) -> Any:
    while getattr(batches, "batch_sampler", None) is not None:
        batches = batches.batch_sampler
    return batches


def _mapped(content: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same batch with each tensor changed."""
    if isinstance(content, torch.Tensor):
        return change(content)
    if isinstance(content, dict):
        return {key: _mapped(part, change) for key, part in content.items()}
    if isinstance(content, list | tuple):
        parts = [_mapped(part, change) for part in content]
        return type(content)(*parts) if "_fields" in dir(content) else type(content)(parts)
    return content


def _tensors(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict):
        for part in content.values():
            yield from _tensors(part)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from _tensors(part)
