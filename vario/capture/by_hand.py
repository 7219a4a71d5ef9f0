"""Updates without a torch optimizer: weights that have moved between two backwards.

Looked for until an optimizer steps these parameters. The parameters are the leaves of the loss's graph;
values are compared, because `p.data.add_()` leaves no other trace. Once they are known to be moved, a write
to them is a step as well, though it adds zeros: a net that has died goes on. A step is known only when the
next backward begins (or the run ends), so what it is to offer is copied right after its backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture.dozing import BY_HAND
from vario.capture.shards import is_whole
from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["ByHand", "leaves"]

WATCHED = 3  # of the smallest leaves, to see whether weights move
REGULAR = 16  # steps in a row, one to a backward
PATIENCE = 256  # backwards without any movement, then nobody moves them by hand
MOST_NODES = 200_000


class ByHand:
    """The stream of one set of leaves that move without an optimizer."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._over = False
        self._stream: Stream | None = None
        self._params: list[Tensor] = []
        self._watched: list[tuple[Tensor, Tensor, int]] = []  # leaf, value and writes at the last backward
        self._still = self._moves = 0
        self._grads: list[Tensor | None] | None = None
        self._weights: list[Tensor] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a step may come of a loss before anybody knows what the step is to offer."""
        return not self._all.streams or (self._stream is not None and not self._over)

    def retire(self, params: list[Tensor]) -> None:
        """An optimizer steps these: nothing of them is moved by hand."""
        mine = {id(parameter) for parameter in self._params}
        if self._stream is None and (not mine or any(id(parameter) in mine for parameter in params)):
            self._over = True
            self._forget()

    def look(self) -> None:
        """At the next backward, or at the end: did the weights move since the last one?"""
        if self._all.doze.optimizer == BY_HAND:
            self._pass()
            return
        if self._over or not self._watched or self._all.inside is not None:
            return
        with torch.no_grad():
            written = self._stream is not None and any(
                leaf._version != count for leaf, _, count in self._watched
            )
            moved = written or any(not _same(leaf, value) for leaf, value, _ in self._watched)
        self._moves = self._moves + 1 if moved else 0
        if not moved:
            self._still += 1
            if self._still > PATIENCE and self._stream is None:
                self._over = True
                self._forget()
            return
        self._still = 0
        if self._stream is None:
            if not self._all.is_asked_for(self._params):
                self._over = True
                return
            self._stream = self._all.begin(self._params, [])
            self._params = self._stream.params  # in the model's order
        self._all.gradients_ready(self._stream, self._grads, self._weights, late=True)
        self._all.step_taken(self._stream, late=True)
        self._grads = self._weights = None

    def _pass(self) -> None:
        """One of the backwards that pass, at which something else was to be heard, or the one after them."""
        doze = self._all.doze
        if doze.left:
            doze.one_passed()
        else:
            doze.end()

    def finish(self) -> None:
        """The end of the run: the step under way is told with those that passed, or looked for."""
        doze = self._all.doze
        passes = doze.optimizer == BY_HAND
        doze.end()
        if not passes:
            self.look()

    def is_regular(self, stream: Stream) -> bool:
        """Whether each backward has been a step for a while, so that those to come may pass untold."""
        return stream is self._stream and self._moves >= REGULAR

    def before(self, tensors: Any) -> None:
        """A backward is about to run from `tensors`."""
        if not self._over and not self._params:
            self._params = leaves(tensors)

    def after(self) -> None:
        """It has run: what the step will offer, if one comes of it."""
        if self._over or not self._params or self._all.inside is not None or self._all.doze.is_deaf:
            return
        if not all(map(_is_there, self._params)):  # what a library puts together for each pass anew
            self._over = True
            self._forget()
            return
        self._remember([parameter.grad for parameter in self._params])

    def before_grad(self, outputs: Any, inputs: Any) -> None:
        """`autograd.grad` is called: with a scalar and leaves, it may be a backward of this kind."""
        if self._over or not _is_training(outputs, inputs) or self._all.streams and self._stream is None:
            return
        self.look()
        if self._all.doze.is_deaf:
            self._all.doze.loss_passed(outputs)
            self._all.gathered.closed(let_go=True)  # with the loss of this step, which passes untold
            return
        self._all.gathered.backward(outputs, self._all.loaders.where)
        if not self._params:
            self._params = list(inputs)

    def after_grad(self, outputs: Any, inputs: Any, result: Any) -> None:
        """It has returned the gradients."""
        if self._over or not self._params or self._all.doze.is_deaf or not _is_training(outputs, inputs):
            return
        given = dict(zip(map(id, inputs), result, strict=True))
        self._remember([given.get(id(parameter)) for parameter in self._params])

    def clipped(self) -> None:
        """Gradients were clipped between the backward and the update."""
        if self._grads is not None and self._stream is not None:
            self._remember([parameter.grad for parameter in self._params])

    def _remember(self, grads: list[Tensor | None]) -> None:
        wanted = self._stream.wanted if self._stream is not None else frozenset()
        self._grads = (
            [None if g is None else g.detach().clone() for g in grads] if "grads" in wanted else None
        )
        self._weights = [p.detach().clone() for p in self._params] if "weights_before" in wanted else None
        small = sorted(self._params, key=Tensor.numel)[:WATCHED]
        self._watched = [(leaf, leaf.detach().clone(), leaf._version) for leaf in small]

    def _forget(self) -> None:
        self._params, self._watched, self._grads, self._weights = [], [], None, None


def leaves(tensors: Any) -> list[Tensor]:
    """The leaves that a backward from `tensors` gives gradients to, in the order of the graph."""
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    todo = [root.grad_fn for root in roots if isinstance(root, Tensor) and root.grad_fn is not None]
    seen: set[Any] = set()
    found: dict[int, Tensor] = {}
    while todo and len(seen) < MOST_NODES:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        todo.extend(below for below, _ in node.next_functions if below is not None)
    return list(found.values())


def _is_training(outputs: Any, inputs: Any) -> bool:
    if not isinstance(outputs, Tensor) or outputs.numel() != 1 or isinstance(inputs, Tensor):
        return False
    return all(isinstance(leaf, Tensor) and leaf.is_leaf and leaf.requires_grad for leaf in inputs)


def _is_there(leaf: Tensor) -> bool:
    """Whether it is whole and its memory still its own: a sharded model frees whole weights after use."""
    if not is_whole(leaf):
        return False
    own = leaf.layout != torch.strided or leaf.is_meta or not leaf.numel()
    return own or leaf.untyped_storage().nbytes() > 0


def _same(leaf: Tensor, value: Tensor) -> bool:
    return leaf.shape == value.shape and bool(torch.equal(leaf.detach(), value))
