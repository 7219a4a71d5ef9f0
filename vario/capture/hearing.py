"""How every event of a loop comes in: one thread's step at a time, unseen by the script, guarded, timed."""

from __future__ import annotations

import time
from typing import Any

import torch

from vario.capture import modes
from vario.capture.observer import Observer
from vario.capture.turns import Turns

__all__ = ["Hearing"]


class Hearing:
    """Calls the method that is named like the event; what fails is switched off, told once, and no more."""

    observer: Observer

    def __init__(self) -> None:
        self._own = 0.0
        self._hearing_since: float | None = None
        self._off: set[str] = set()
        self._turns = Turns(self.is_busy, self.turned, self.missed)

    def is_busy(self) -> bool:
        """Whether the thread that is heard is inside a backward or a step."""
        raise NotImplementedError

    def is_deaf(self) -> bool:
        """Whether nothing may be read at present."""
        raise NotImplementedError

    def turned(self) -> None:
        """From now on it is another thread that is heard."""
        raise NotImplementedError

    def missed(self) -> None:
        """A step of another thread is not heard, the first of them."""
        raise NotImplementedError

    def hear(self, event: str, *arguments: Any) -> Any:
        """Called by the hooks: nothing but KeyboardInterrupt and its like gets out of here."""
        if event in self._off:
            return None
        outermost, start = self._hearing_since is None, time.perf_counter()
        if outermost:
            self._hearing_since = start
        heard = False
        try:
            heard = self._turns.enter(event)
            if heard and not self.is_deaf():
                # tensors of the script's own kinds are to count no calls of ours either
                with torch._C.DisableTorchFunctionSubclass():
                    return modes.unseen(getattr(self, event), *arguments)
        except Exception as error:
            self._off.add(event)
            self.fail(event, error)
        finally:
            self._turns.leave(event, heard)
            if outermost:
                self._own += time.perf_counter() - start
                self._hearing_since = None
        return None

    def loaded(self, iterator: Any, batch: Any, indices: Any, seconds: float) -> None:
        """A batch is in the script's hands."""
        raise NotImplementedError

    def batch_came(self, iterator: Any, batch: Any, indices: Any, seconds: float) -> None:
        """As `hear` of what comes at every step, and calls nothing of torch's that is to be hidden."""
        if "loaded" in self._off or not self._turns.loads():
            return
        outermost, start = self._hearing_since is None, time.perf_counter()
        if outermost:
            self._hearing_since = start
        try:
            self.loaded(iterator, batch, indices, seconds)
        except Exception as error:
            self._off.add("loaded")
            self.fail("loaded", error)
        finally:
            if outermost:
                self._own += time.perf_counter() - start
                self._hearing_since = None

    @property
    def own(self) -> float:
        """Seconds spent in here so far, those of the call under way included."""
        since = self._hearing_since
        return self._own if since is None else self._own + time.perf_counter() - since

    def spent(self, seconds: float) -> None:
        """Time of ours inside the script's own backward."""
        self._own += seconds

    def fail(self, place: str, error: Exception) -> None:
        """Tell that something of ours broke, whatever the teller does."""
        try:
            self.observer.failed(place, error)
        except Exception as worse:
            self._off.add(f"telling of {place}: {worse!r}")
