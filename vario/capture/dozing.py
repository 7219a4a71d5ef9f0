"""Steps of which nothing is wanted: they pass untold, and are counted.

Hearing of a step costs some 20 us even where nothing is done with it, which is 1 % of a step of 2 ms. While
the attachment dozes, the hooks only count the steps down. Of steps of which no more is wanted than losses and
times, these are kept and told together at the end: amid the script's own work each costs twice as much.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from vario.capture import modes
from vario.capture.losses import MicroBatches
from vario.capture.thinned import FAR

if TYPE_CHECKING:
    from vario.capture.attach import Attachment
    from vario.capture.streams import Stream

__all__ = ["BY_HAND", "KEPT", "Doze"]

KEPT = frozenset({"losses", "terms", "times"})  # needs that can be kept of steps that pass
BY_HAND = -1  # in place of an optimizer: each backward is a step


class Doze:
    """`optimizer` is the id of the one whose steps pass, 0 while awake; `left`, how many are yet to pass;
    `keeps`, whether losses and times are kept meanwhile. Where weights are moved by hand it is backwards that
    pass: a step is known at the one after it, so the last that passes is told at the one after that.
    """

    def __init__(self, owner: Attachment) -> None:
        self.optimizer = self.left = 0
        self.keeps = False
        self.nests = False  # whether a step was met within another: then each must be heard
        self.closures = False  # whether losses are called within steps: then none can be kept
        self._owner = owner
        self._counted = 0  # what `left` was at the last count
        self._untold = 0
        self.reads_norms = self.reads_losses = self.reads_clips = False  # of the step under way
        self._of_these = self._until = FAR  # step ends, from when until something is read or to be read
        self._kept: list[tuple[MicroBatches | None, dict[str, float | None]]] = []

    @property
    def is_deaf(self) -> bool:
        """Whether nothing of the steps that pass is kept."""
        return self.optimizer != 0 and not self.keeps

    def begin(self, stream: Stream) -> None:
        """Let the coming steps pass, where one optimizer alone steps and the observer agrees."""
        optimizers = [id(alive) for ref in stream.optimizers if (alive := ref()) is not None]
        self.keeps = bool(stream.wanted)
        if not len(self._owner.streams) == len(optimizers) == 1 or self.nests or self.keeps and self.closures:
            return
        self.left = self._counted = self._owner.observer.idle_steps(stream)
        self.optimizer = optimizers[0] if self.left else 0
        self._of_these = self._until = min(thinned.ends_until() for thinned in stream.thinned)

    def begin_by_hand(self, stream: Stream) -> bool:
        """Let the backwards after this one pass, where the observer wants nothing of their steps."""
        if len(self._owner.streams) != 1 or stream.wanted:
            return False
        self.left = self._counted = max(self._owner.observer.idle_steps(stream) - 1, 0)
        self.optimizer = BY_HAND if self.left else 0
        self._of_these = self._until = FAR
        self.keeps = False
        return bool(self.left)

    def backward_passed(self, tensors: Any) -> None:
        """One that is no part of another; the loss after the last of them is heard again."""
        if torch._C._current_graph_task_id() == -1:
            if self.optimizer == BY_HAND:
                self.one_passed()
            self._owner.streams[0].backwards += 1
            self._owner.spent(self.loss_passed(tensors))

    def loss_passed(self, tensors: Any) -> float:
        """A backward of a step of which nothing is wanted: its loss may be kept. The seconds that took."""
        owner, alone = self._owner, len(self._owner.streams) == 1
        if not (owner.streams[0].every_loss.due if alone else any(s.every_loss.due for s in owner.streams)):
            return 0.0
        start, stream = time.perf_counter(), owner.streams[0]
        try:
            if threading.get_ident() == stream.thread:
                # of several streams nobody knows yet which it is of
                modes.unseen(stream.every_loss.backward if alone else owner.gathered.passes, tensors)
        except Exception as error:
            for stream in owner.streams:
                stream.every_loss.keep(0)
            owner.fail("the loss of every step", error)
        seconds = time.perf_counter() - start
        stream.every_loss.took(seconds)
        return seconds

    def step_begins(self, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """The optimizer is about to take one of the steps that pass: the norm of its gradient may be kept."""
        stream = self._owner.streams[0]
        if self.optimizer and stream.every_norm.due:
            self._owner.spent(
                stream.every_norm.step_begins(self._owner, stream, self._step_under_way(), given, named)
            )

    def loss_called(self, name: str, args: Any, kwargs: Any) -> None:
        """A loss of training whose arguments nobody asks for: how much of its batch is right may be kept."""
        if self.reads_losses:
            stream = self._owner.streams[0]
            seconds = stream.every_accuracy.called(self._owner, stream, name, args, kwargs)
            self._owner.spent(seconds if self.optimizer else 0.0)  # else it is heard, and timed

    def clipped(self, norm: Any) -> None:
        """The gradient of a step of which nothing is wanted was clipped: its norm may be kept."""
        self._owner.streams[0].every_clip.clipped(norm)

    def _step_under_way(self) -> int:
        return self._owner.streams[0].step + self._counted - self.left

    def one_passed(self) -> None:
        """One less that is to pass."""
        self.step_passed()
        self._owner.awake |= not self.left

    def step_passed(self) -> None:
        """A step has been taken of which nothing was told."""
        self._until -= 1
        if not self._until:
            self._thin()
        stream = self._owner.streams[0]
        stream.backwards = 0
        self.left -= 1
        kept = stream.every_loss
        known = kept.due and self.optimizer != BY_HAND  # by hand the next batch is in hand by now
        kept.passed(self._owner.loaders.examples if known else None)

    def _thin(self) -> None:
        """A step ends that was read, or before one that is to be."""
        stream, step = self._owner.streams[0], self._step_under_way()
        if stream.every_norm.due:
            self._owner.spent(stream.every_norm.step_taken(self._owner, stream, step))
        if stream.every_accuracy.due:
            counts = stream.backwards, stream.micro_batches
            self._owner.spent(stream.every_accuracy.step_ends(self._owner, step, *counts))
        if stream.every_clip.due:
            self._owner.spent(stream.every_clip.step_ends(self._owner, step))
        self._pass(stream)

    def _pass(self, stream: Stream) -> None:
        """As many steps as have ended are counted by those that read some of them."""
        for thinned in stream.thinned:
            thinned.next_step(self._of_these - self._until)
        self._of_these = self._until = min(thinned.ends_until() for thinned in stream.thinned)
        self._look_what_is_read()

    def keep_of_every_step(self, stream: Stream) -> None:
        """What the coming steps of a stream keep, measured or not."""
        stream.keep_of_every_step(self._owner.observer)
        self._look_what_is_read()

    def _look_what_is_read(self) -> None:
        alone, stream = len(self._owner.streams) == 1, self._owner.streams[0]
        self.reads_norms = alone and stream.every_norm.due
        self.reads_losses = alone and stream.every_accuracy.due
        self.reads_clips = alone and stream.every_clip.due

    def keep(self) -> None:
        """One of the steps has been taken: what it is to offer."""
        owner = self._owner
        stream, batches, now = owner.streams[0], owner.gathered.batches, time.perf_counter()
        fresh = batches is not stream.last_batches
        self._kept.append((batches if fresh else None, stream.times(owner.own)))
        stream.seconds, stream.ended, stream.last_batches = now - stream.ended, now, batches
        owner.gathered.closed(let_go=True)
        owner.loaders.let_go()

    def count(self) -> None:
        """Move the number of the step on by those that have passed."""
        if self.optimizer:
            passed, self._counted = self._counted - self.left, self.left
            self._owner.streams[0].step += passed
            self._untold += passed

    def steps(self) -> int:
        """How many have been taken, of all streams together."""
        self.count()
        return sum(stream.step for stream in self._owner.streams)

    def end(self) -> None:
        """Account for the steps that have passed, and hear the next one."""
        self.count()
        if self.optimizer == BY_HAND:  # and the step that was under way as it began
            self._owner.streams[0].step += 1
            self._owner.streams[0].every_loss.passed()
            self._untold += 1
        owner, passed, self._untold = self._owner, self._untold, 0
        if self.optimizer:  # what went backward since the last step is of another optimizer
            owner.streams[0].every_loss.drop()
            if self._until < self._of_these:
                self._pass(owner.streams[0])
        self.optimizer = 0
        if not passed:
            return
        stream, kept, self._kept = owner.streams[0], self._kept, []
        offered: list[dict[str, Any]] = [
            {"times": times} | ({} if batches is None else stream.losses_of(batches))
            for batches, times in kept
        ]
        owner.observer.passed(stream, passed, offered)
        if not kept:
            stream.ended, stream.data_wait, stream.own_before = time.perf_counter(), 0.0, owner.own
        owner.expect(stream)
