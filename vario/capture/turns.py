"""Whose step is heard, where several threads of a script train at once: one at a time, whole or not at all.

What another thread does between a loss and its step would be taken for a part of that step; and what listens
inside a graph must not be taken away by one thread while torch runs back through it in another. So the thread
that begins a step has the turn until its optimizer has stepped. Others go unheard meanwhile, and each of them
until its own step is over, for the beginning of that one was missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

__all__ = ["Turns"]

_TRAINING = frozenset(
    {"forward", "loss_called", "scaled", "before_backward", "before_grad", "clipped", "before_step"}
)  # of these the first begins a step; without gradients they belong to an evaluation
_LOADING = frozenset({"loader_started", "look_at_rows"})  # threads may fetch ahead
_ALWAYS = frozenset({"finish", "optimizer_gone", "doze_over", "compiled", "printed"})
_ENOUGH = 3  # backwards of others while the one whose turn it is says nothing: it trains no more
_BY_HAND = 32  # backwards without a step of an optimizer: there is none to wait for


class Turns:
    """`busy`: whether a backward or a step is under way; `changed`: another thread than the last begins a
    step; `missed`: a step goes unheard, told once."""

    def __init__(
        self, busy: Callable[[], bool], changed: Callable[[], None], missed: Callable[[], None]
    ) -> None:
        self._busy, self._changed, self._missed = busy, changed, missed
        self._lock = threading.RLock()  # garbage that is collected in here may be heard as well
        self._turn: int | None = None  # the thread whose step is under way
        self._last = threading.get_ident()
        self._within = 0  # events of that thread that are being heard; it alone counts them, without the lock
        self._guest, self._guests = 0, 0  # a thread that is heard outside any step, and how deep
        self._late: dict[
            int, int
        ] = {}  # threads whose step was not heard from its beginning: backwards since
        self._others = 0  # backwards of others since the one whose turn it is was last heard
        self._told = False

    def enter(self, event: str) -> bool:
        """Whether this event of the thread that calls is to be heard; then `leave` says that it has been."""
        me = threading.get_ident()
        if me == self._turn:
            self._within += 1
            if me == self._turn:  # nobody took it away in between
                self._others = 0
                return True
            self._within -= 1
        if event in _ALWAYS:
            return True
        with self._lock:
            if event in _LOADING:
                return self.loads()
            if self._turn is not None and _is_torchs(me):
                return True
            return self._comes(me, event)

    def leave(self, event: str, heard: bool) -> None:
        """The event is over."""
        me = threading.get_ident()
        if me == self._turn:
            self._within = max(self._within - heard, 0)
            if event == "after_step" and not self._busy():  # an optimizer may step inside a backward
                self._turn = None
            return
        if event in _ALWAYS or event in _LOADING:
            return
        with self._lock:
            if heard and me == self._guest and self._guests:
                self._guests -= 1
            if event == "after_step":
                self._late.pop(me, None)

    def loads(self) -> bool:
        """Whether the batches of the thread that calls are to be heard of."""
        return not self._late or threading.get_ident() not in self._late

    def _comes(self, me: int, event: str) -> bool:
        begins = event in _TRAINING and torch.is_grad_enabled()
        if event == "before_backward":
            self._goes_back(me)
        free = self._turn is None and (not self._guests or self._guest == me)
        if free and me not in self._late:
            if begins:
                self._begin(me)
            else:
                self._guest, self._guests = me, self._guests + 1
            return True
        if begins:
            self._late.setdefault(me, 0)
            if not self._told:
                self._told = True
                self._missed()
        return False

    def _goes_back(self, me: int) -> None:
        """A thread goes backward whose turn it is not: is it still that of the one that has it?"""
        if me in self._late:
            self._late[me] += 1
            if self._turn is None and self._late[me] > _BY_HAND:
                del self._late[me]
        if self._turn is None:
            return
        self._others += 1
        if self._others >= _ENOUGH and not self._busy():
            mute, self._turn = self._turn, None
            if self._within:  # it has just come in
                self._turn = mute
                return
            self._late[mute] = 0
            self._last, self._others = 0, 0  # of what it had begun nobody goes on

    def _begin(self, me: int) -> None:
        if me != self._last:
            self._last = me
            self._changed()
        self._within, self._guests, self._others = 1 + self._guests, 0, 0  # an event may bring another
        self._turn = me


def _is_torchs(thread: int) -> bool:
    """Whether no Python thread has this number: torch goes back through a graph in threads of its own."""
    return all(other.ident != thread for other in threading.enumerate())
