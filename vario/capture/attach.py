"""A running training loop, heard through torch's own doors and told to an observer as steps.

Nothing here is measured or stored, and nothing may reach the script: what fails is switched off,
told once, and the script goes on. Gradients are offered before the optimizer's step, weights after it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from vario.capture import hooks, never_stepped
from vario.capture.accelerators import Autocast, Graphs, wait_for_queue
from vario.capture.answers import Answers
from vario.capture.batches import Gathered, carried, one_clip
from vario.capture.by_hand import ByHand
from vario.capture.closures import nested, with_closure
from vario.capture.doors import Doors
from vario.capture.dozing import KEPT, Doze
from vario.capture.dropouts import Dropouts
from vario.capture.elsewhere import tell_of, tell_of_moved
from vario.capture.evaluated import modes_at_evaluation
from vario.capture.evaluation import Evaluation
from vario.capture.gradients_on import GradientsOn
from vario.capture.hearing import Hearing
from vario.capture.in_backward import InBackward
from vario.capture.inputs import Inputs
from vario.capture.loaders import Loaders
from vario.capture.loss_calls import apart, read_call
from vario.capture.loss_within import LossWithin
from vario.capture.needs import LossCall
from vario.capture.observer import Observer
from vario.capture.room import Room
from vario.capture.schedulers import Schedulers
from vario.capture.streams import Stream, copied, make_stream, mode_counts
from vario.capture.without_loader import WithoutLoader
from vario.nouns import Reading

__all__ = ["Attachment"]


class Attachment(Hearing):
    """Listens until `detach`. `only`: hear no optimizer but those of this model's parameters."""

    def __init__(
        self,
        observer: Observer,
        *,
        only: nn.Module | None = None,
        budget: float = 0.03,
        claim: Callable[[str], bool] = lambda name: True,
    ) -> None:
        super().__init__()
        self.observer = observer
        self._claim, self._taken = claim, set[str]()
        self.streams: list[Stream] = []
        self.loaders, self.schedulers = Loaders(self.happened), Schedulers(self)
        self.scheduler_stepped = self.schedulers.stepped
        self.evaluation = Evaluation(self._evaluated, budget=budget)
        self.by_hand, self.in_backward = ByHand(self), InBackward(self)
        self.gathered, self.dropouts = Gathered(), Dropouts(self.happened)
        self.inputs, self.doors, self._room = Inputs(self), Doors(self), Room(self.happened)
        self.forward, self.look_at_rows = self.inputs.forward, self.loaders.look_at_rows
        self.answers = Answers(self, self._evaluated, budget=budget)
        self.dropout_called, self.answered = self.dropouts.called, self.answers.answered
        self.without_loader, self.gradients_on = WithoutLoader(self, self.happened), GradientsOn(self)
        self.answered_outside = LossWithin(self).answered_outside
        self.evaluates, self.evaluated_on = self.without_loader.evaluates, self.without_loader.evaluated_on
        self.gradients_off, self.gradients_back = self.without_loader.opened, self.without_loader.closed
        self.depth = 0  # of backwards inside backwards
        self.awake = True
        self.doze = Doze(self)
        self.doze_over, self.step_passed = self.doze.end, self.doze.keep  # the last untold step; each of them
        self._unusual = False  # whether backwards matter even where nothing of the step is wanted
        self.inside: Stream | None = None  # the stream whose optimizer is stepping
        self._graphs, self.autocast_entered = Graphs(self.happened), Autocast(self.happened).entered
        self.of_optimizer: dict[int, tuple[Any, Stream | None]] = {}
        self._only = None if only is None else frozenset(map(id, only.parameters()))
        self._waiting: list[Callable[[], None]] = []  # told before the first stream is known
        hooks.join(self)
        self.inputs.listen()

    def detach(self) -> None:
        """Hear no more; what was open is closed and told."""
        self.hear("finish")
        self.forget()

    def forget(self) -> None:
        """Hear no more, and tell nothing of what was open: it is another process's."""
        self.inputs.stop()
        self.without_loader.stop()
        hooks.leave(self)
        self.of_optimizer.clear()  # those that go later may go with half of the interpreter gone

    def is_busy(self) -> bool:
        """Inside a backward, or a step."""
        return self.depth > 0 or self.inside is not None

    def is_deaf(self) -> bool:
        """A graph is captured: what is read now would be read again at each replay."""
        return self._graphs.in_the_making()

    def turned(self) -> None:
        """What the thread before had gathered is none of this one's."""
        self.gathered = Gathered()

    def missed(self) -> None:
        """Another thread trains at the same time."""
        self.happened("other_threads", "", {})

    def finish(self) -> None:
        """The end of the run: what is still open is told."""
        self.by_hand.finish()
        self.without_loader.stop()
        self.evaluation.close()
        never_stepped.tell(self)
        for stream in self.streams:
            stream.tell_kept(self.observer)
            stream.over = True
        self.schedulers.close()

    # ---- backward

    def before_backward(self, tensors: Any) -> None:
        self.depth += 1
        if self.depth > 1:  # a checkpoint that runs its own backward
            return
        self.by_hand.look()
        self.gradients_on.backward(self._loss_of_training)
        self.evaluation.close()
        self.without_loader.stop()
        self.loaders.used_for_training()
        self.in_backward.begin()
        if self.doze.is_deaf:  # an evaluation woke it: this step passes untold, and its losses with it
            self.awake = not self.doze.left
            self.doze.loss_passed(tensors)
            self.gathered.closed(let_go=True)
            return
        if not self.gathered.open().members:
            carried(self.streams)
            self.gathered.look_at_graph(tensors, self.streams)
        self.gathered.backward(tensors, self.loaders.where)
        self.by_hand.before(tensors)
        self.doors.before(tensors)

    def after_backward(self) -> None:
        self.depth = max(0, self.depth - 1)
        if self.depth == 0:
            self.doors.after()
            self.in_backward.end()
            self.by_hand.after()
            if not self.streams:
                never_stepped.look(self)

    def before_grad(self, outputs: Any, inputs: Any) -> None:
        if self.depth == 0:
            self.gradients_on.forget()
            self.by_hand.before_grad(outputs, inputs)

    def after_grad(self, outputs: Any, inputs: Any, result: Any) -> None:
        if self.depth == 0:
            self.by_hand.after_grad(outputs, inputs, result)

    # ---- loss functions, clipping, scaling

    def loss_called(
        self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> None:
        if not isinstance(value, Tensor) or self.depth:
            return
        training = torch.is_grad_enabled()
        if training and not value.requires_grad:
            return
        maybe = training and self.gradients_on.may_evaluate()
        if training and not (maybe or self.keeps_calls) and "reduction" not in kwargs and value.dim() == 0:
            self.gathered.loss_given(value)
            self.doze.loss_called(name, args, kwargs)
            return
        call = read_call(name, function, args, kwargs, value)
        if call is None:
            return
        if not training:
            self.awake = True  # the next backward ends the pass
            if not self.inside:
                where, *rows = self.without_loader.loss_called(len(call.output) if call.output.dim() else 0)
                self.evaluation.add(where, call, self.modes)
                self.evaluation.rows_seen(where, *rows)
            return
        if maybe:
            self.gradients_on.hold(call)
            return
        self.answers.trained(call, function, args, kwargs)
        self._loss_of_training(call, value)

    def _loss_of_training(self, call: LossCall, value: Tensor | None = None) -> None:
        self.evaluation.training_losses.add(call.name)
        self.gathered.loss_called(self.loaders, call, value, keep=self.keeps_calls)

    @property
    def keeps_calls(self) -> bool:
        """Whether calls of loss functions in training are wanted."""
        return self.by_hand.is_open or any("loss_calls" in stream.wanted for stream in self.streams)

    def modes(self) -> dict[str, tuple[int, int]]:
        return modes_at_evaluation(self.streams) | self.dropouts.modes()

    def clipped(self, max_norm: Any, norm: Any) -> None:
        self.gathered.batches.clips.append((norm, max_norm))
        self.by_hand.clipped()

    def scaled(self, loss: Any, scaled: Any) -> None:
        self._unusual = True
        self.gathered.scaled(loss, scaled)

    def scaler_stepped(self, optimizer: Any) -> None:
        batches, known = self.gathered.batches, self.of_optimizer.get(id(optimizer))
        if batches.members and not batches.closed and (known is None or known[1] is not None):
            self.gathered.closed(let_go=True)  # its gradients were not finite: no step was made of them
            self.happened("skipped_step", "", {})

    # ---- steps

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.depth:
            self.in_backward.before_step(optimizer)
            return None
        if self.inside is not None and nested():
            self.doze.nests = True
            return None
        self.doze.end()
        stream = self.inside = self.stream_of(optimizer)
        if stream is not None and stream.every_norm.due and "weights_before" not in stream.wanted:
            stream.every_norm.step_begins(self, stream, stream.step, args, kwargs)
        if stream is None or not self.awake:
            return None
        changed = with_closure(args, kwargs, lambda: self.hear("gradients_ready", stream))
        self.doze.closures |= changed is not None
        if changed is None:
            self.gradients_ready(stream)
        return changed

    def after_step(self, optimizer: Optimizer) -> None:
        stream = self.of_optimizer.get(id(optimizer), (None, None))[1]
        if stream is not None and stream is self.inside:
            self.inside = None
            self.step_taken(stream)

    def stream_of(self, optimizer: Optimizer) -> Stream | None:
        """The stream of an optimizer, made at its first step; None where nobody asked for it."""
        known = self.of_optimizer.get(id(optimizer))
        if known is not None and known[0]() is optimizer:
            return known[1]
        params = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        stream, key = None, id(optimizer)
        if self.is_asked_for(params):
            self.by_hand.retire(params)
            stream = self.begin(params, [optimizer])
        self.of_optimizer[key] = (weakref.ref(optimizer, lambda _: self.hear("optimizer_gone", key)), stream)
        return stream

    def optimizer_gone(self, key: int) -> None:
        if key == self.doze.optimizer:
            self.doze.end()
        if (stream := self.of_optimizer.pop(key, (None, None))[1]) is not None:
            stream.tell_kept(self.observer)
            stream.let_go()  # its parameters must not live on because of us
            if len(self.streams) > 1:
                self.streams.remove(stream)

    def is_asked_for(self, params: list[Tensor]) -> bool:
        """Whether these are parameters of the model that is watched, where only one is."""
        return bool(params) and (self._only is None or any(id(p) in self._only for p in params))

    def begin(self, params: list[Tensor], optimizers: list[Optimizer]) -> Stream:
        """A new stream, told to the observer together with what happened before it."""
        self._unusual |= len(optimizers) != 1
        stream = make_stream(params, optimizers, self._is_free)
        stream.own_before = self.own
        self.observer.began(stream)
        self.streams.append(stream)
        stream.wanted = self._room.left(stream, self.observer.wants(stream))
        self.observer.event(stream, "parameters", "", stream.parameters_event())
        self.observer.event(stream, "modules", "", stream.modules_event())
        if optimizers:
            self.observer.event(stream, "optimizer", "", stream.optimizer_event())
        tell_of(stream, self.streams, self.observer.event)
        while self._waiting:
            self._waiting.pop(0)()
        return stream

    def _is_free(self, name: str) -> bool:
        if name in self._taken or not self._claim(name):
            return False
        self._taken.add(name)
        return True

    def gradients_ready(
        self,
        stream: Stream,
        grads: list[Tensor | None] | None = None,
        weights: list[Tensor] | None = None,
        *,
        late: bool = False,
    ) -> None:
        """Offer what is known before the optimizer moves. `late`: it has; `grads`, `weights` are copies."""
        wanted, batches = stream.wanted, self.gathered.batches
        if "weights_before" in wanted:  # much will be asked of the device, and that is to be ours
            self._own -= wait_for_queue(stream.params[0])
        if not late and "times" in wanted and stream.skips():
            self.happened("skipped_step", "", {})
            return
        if not late and "grads" in wanted:
            grads = [parameter.grad for parameter in stream.params]
        if not late and "weights_before" in wanted:
            weights = [parameter.detach().clone() for parameter in stream.params]
        raw: dict[str, Any] = {"names": stream.names, **stream.weights()}
        raw["grads"] = None if grads is None else [None if g is None else stream.unscaled(g) for g in grads]
        raw["groups"], raw["group_of"] = stream.groups() if "groups" in wanted else ([], [])
        fresh = stream.last_batches is not batches
        if fresh:
            raw.update(stream.losses_of(batches) if "losses" in wanted else {})
            raw["carried"], raw["modes"] = stream.carried, mode_counts(stream) if "modes" in wanted else None
            raw["inputs"] = self.inputs.of(stream)
            raw["rows"] = self.without_loader.trained(raw["inputs"])
            raw["activations"] = batches.activations.get(stream.name)
            raw["loss_calls"], raw["attacks"] = (calls or None for calls in apart(batches.calls))
            raw["double_softmax"] = batches.double_softmax
            raw["clip"] = one_clip(batches.clips)
            raw.update(self.doors.of(stream))
        if stream.grads_before is not None and stream.grads_before[0] == stream.step - 1:
            raw["grads_previous"] = stream.grads_before[1]
        raw["weights_before"] = weights
        raw["times"] = stream.times(self.own)
        self.observer.at_gradient(stream, {key: value for key, value in raw.items() if value is not None})
        keep = "keep_grads" in wanted and grads is not None
        stream.grads_before = (stream.step, [copied(g) for g in grads]) if keep and grads else None

    def step_taken(self, stream: Stream, *, late: bool = False) -> None:
        """The optimizer has moved: the step ends, the next begins (`late`: and its losses were called)."""
        if "times" in stream.wanted:  # something will be read
            self._own -= wait_for_queue(stream.params[0])
        now = time.perf_counter()
        stream.seconds, stream.ended = now - stream.ended, now
        held = None if late else self.loaders.examples
        stream.every_loss.heard(stream, self.gathered.batches, self.observer, held)
        self.observer.stepped(stream, {})
        tell_of_moved(stream, self.observer.event)
        stream.next_step(self, self.gathered.batches)
        stream.last_batches, stream.carried = self.gathered.batches, None
        self.gathered.closed(let_go=len(self.streams) == 1, late=late)  # others may yet step on it
        self.loaders.let_go()
        self.expect(stream)

    def expect(self, stream: Stream) -> None:
        """The next step begins: what is wanted of it."""
        stream.wanted = self._room.left(stream, self.observer.wants(stream))
        self.doze.keep_of_every_step(stream)
        passes = self.by_hand.is_regular(stream) and self.doze.begin_by_hand(stream)
        self.awake = not passes and (self._unusual or any(other.wanted for other in self.streams))
        if self.awake:
            self.inputs.listen()
            self.doors.step_begins()
        if not self._unusual and stream.wanted <= KEPT:
            self.doze.begin(stream)

    # ---- loaders, models, surroundings

    def loader_started(self, loader: Any, iterator: Any) -> None:
        where = self.loaders.started(loader, iterator, self.doze.steps())
        self.without_loader.loader_started(where)
        self.evaluation.close(where)

    def loaded(self, iterator: Any, batch: Any, indices: Any, seconds: float) -> None:
        if self.loaders.came(iterator, batch, indices):
            self.hear("look_at_rows")
        for stream in self.streams:
            stream.data_wait += seconds

    def compiled(self, what: Any) -> None:
        self.inputs.again()
        self.happened("compiled", "", {"what": type(what).__name__ if what is not None else ""})

    def printed(self, series: str, value: float, where: str = "") -> None:
        self._evaluated([Reading(series, value, where)])

    def happened(self, kind: str, where: str, data: dict[str, Any]) -> None:
        self._tell(lambda: self.observer.event(self.streams[0], kind, where, data))

    def _evaluated(self, readings: list[Reading]) -> None:
        self._tell(lambda: self.observer.readings(self.streams[0], readings))

    def _tell(self, tell: Callable[[], None]) -> None:
        self.doze.count()
        tell() if self.streams else self._waiting.append(tell)
