"""The steps of one optimizer, or of one set of parameters that is updated by other means."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from vario.capture import names as naming
from vario.capture import outside, shards
from vario.capture.every_accuracy import EveryAccuracy
from vario.capture.every_clip import EveryClip
from vario.capture.every_loss import EveryLoss
from vario.capture.every_norm import EveryNorm
from vario.capture.losses import Divided, MicroBatches, divided_by_number, undivided
from vario.capture.unregistered import unregistered

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing
    from vario.capture.observer import Observer

__all__ = ["Stream", "copied", "make_stream", "mode_counts", "rank"]

_WITH_MODES = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)
_SETTINGS = tuple(
    "p momentum eps affine track_running_stats in_features out_features in_channels out_channels kernel_size "
    "stride num_embeddings embedding_dim normalized_shape num_groups negative_slope approximate num_heads "
    "dropout".split()
)


@dataclass(eq=False)
class Stream:
    """`step` is the number of the next step; `wanted` the raw needs that it is to offer."""

    name: str
    params: list[Tensor]
    names: list[str]
    optimizers: list[weakref.ref[Optimizer]]
    model: weakref.ref[nn.Module] | None
    module_ids: frozenset[int]
    with_modes: list[weakref.ref[nn.Module]]
    cuts: list[int] = field(default_factory=list)  # into how many shards each is cut; none where none is
    step: int = 0
    backwards: int = 0  # of the step under way, of which nothing was heard
    micro_batches: int = 1  # of a step, where their losses are divided by their number
    divided: Divided = field(default_factory=Divided)  # as the losses of the last step that was read
    loss: float | None = None  # of the last step that was read
    every_loss: EveryLoss = field(default_factory=EveryLoss)
    every_norm: EveryNorm = field(default_factory=EveryNorm)
    every_accuracy: EveryAccuracy = field(default_factory=EveryAccuracy)
    every_clip: EveryClip = field(default_factory=EveryClip)
    over: bool = False  # there will be no further step
    outside: dict[str, float] = field(default_factory=dict)  # sums of what the optimizer does not hold
    left_out: dict[int, tuple[float | None, float | None]] = field(default_factory=dict)  # of no optimizer
    told_left_out: dict[str, list[int]] = field(default_factory=dict)
    look_again: int = 0  # at these, from this step on
    wanted: frozenset[str] = frozenset()
    carried: float | None = None
    inputs: list[Tensor] | None = None
    inputs_after: Any = None  # the batches that were under way, or over, when they came
    grads_before: tuple[int, list[Tensor | None]] | None = None  # the step that they were of
    last_batches: Any = None
    thread: int = field(default_factory=threading.get_ident)  # in which it stepped last
    ended: float = field(default_factory=time.perf_counter)
    seconds: float | None = None  # of the last step, end to end
    data_wait: float = 0.0
    own_before: float = 0.0

    @property
    def thinned(self) -> tuple[EveryNorm, EveryAccuracy, EveryClip]:
        """What is read of many steps of which little else is."""
        return self.every_norm, self.every_accuracy, self.every_clip

    @property
    def sharded(self) -> bool:
        """Whether this process holds but a part of some parameter (FSDP, tensor parallel)."""
        return bool(self.cuts)

    def is_asked(self, module: nn.Module) -> bool:
        """Whether a call of the module is one of the model, or of a part that is the first to be asked."""
        if outside.is_where_we_are():  # a compiled part may come after others
            return self.model is not None and naming.unwrapped(module) is self.model()
        return id(module) in self.module_ids

    def can_offer(self, wanted: frozenset[str]) -> frozenset[str]:
        """Of what is wanted; of parameters in parts nobody may ask what only the whole could tell."""
        return wanted - shards.OF_WHOLES if self.sharded else wanted

    def weights(self) -> dict[str, Any]:
        """The parameters as a step offers them, before it; nothing but shards where they are cut."""
        if not self.sharded:
            return {"params": self.params}
        if "shards" not in self.wanted:
            return {}
        grads = [None if p.grad is None else self.unscaled(shards.local(p.grad)) for p in self.params]
        return {"shards": shards.take(self.params, self.names, self.cuts), "shard_grads": grads}

    def groups(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Settings of the groups (equal ones of several optimizers as one); the group of each parameter."""
        settings: list[dict[str, Any]] = []
        group_of: dict[int, int] = {}
        for optimizer in [alive for ref in self.optimizers if (alive := ref()) is not None]:
            for group in optimizer.param_groups:
                mine = {key: value for key, value in group.items() if key != "params"}
                if len(self.optimizers) > 1 and mine in settings:
                    index = settings.index(mine)
                else:
                    index = len(settings)
                    settings.append(mine)
                group_of.update((id(parameter), index) for parameter in group["params"])
        return settings, [group_of.get(id(parameter), 0) for parameter in self.params]

    def unscaled(self, grad: Tensor) -> Tensor:
        """Fused optimizers are given scaled gradients together with the scale."""
        optimizer = self.optimizers[0]() if self.optimizers else None
        scale = getattr(optimizer, "grad_scale", None)
        return grad if scale is None else grad / scale

    def skips(self) -> bool:
        """Whether this step of a fused optimizer does nothing: a GradScaler found gradients not finite."""
        optimizer = self.optimizers[0]() if self.optimizers else None
        found = getattr(optimizer, "found_inf", None)
        return found is not None and bool(found)

    def losses_of(self, batches: MicroBatches) -> dict[str, Any]:
        """The loss of each micro-batch, as it was before it was divided by their number, and its terms."""
        if divided_by_number(batches.members):
            self.micro_batches = len(batches.members)
        losses, self.divided = undivided(batches.members, usual=self.micro_batches)
        self.loss = sum(losses) / len(losses) if losses else None
        return {
            "losses": losses,
            "terms": [member.terms for member in batches.members if member.value is not None],
        }

    def times(self, own: float) -> dict[str, float | None]:
        """Seconds of the last step, of waiting for its data, and of ours; `own`: all of ours so far."""
        wait, spent = self.data_wait, own - self.own_before
        self.data_wait, self.own_before = 0.0, own
        return {"step": self.seconds, "data_wait": wait, "own": spent}

    def keep_of_every_step(self, observer: Observer) -> None:
        """The coming steps keep what the observer can afford of them, measured or not."""
        self.every_loss.keep(observer.loss_period(self))
        for kept in self.thinned:
            kept.keep(0 if self.sharded else observer.kept_period(self, kept))

    def tell_kept(self, observer: Observer) -> None:
        """What was kept of steps so far."""
        for kept in self.thinned:
            kept.tell(self, observer)
        self.every_loss.tell(self, observer)

    def next_step(self, owner: Hearing, batches: MicroBatches) -> None:
        """A step that was heard has ended, of these micro-batches."""
        fresh = batches is not self.last_batches
        if self.every_clip.due and "clip" not in self.wanted:
            for norm, _ in batches.clips if fresh else ():
                self.every_clip.clipped(norm)
            self.every_clip.step_ends(owner, self.step)
        if self.every_accuracy.due and "loss_calls" not in self.wanted:
            backwards = self.backwards + (len(batches.members) if fresh else 0)
            self.every_accuracy.step_ends(owner, self.step, backwards, self.micro_batches)
        self.backwards = 0
        self.step, self.thread = self.step + 1, threading.get_ident()
        for kept in self.thinned:
            kept.next_step()

    def let_go(self) -> None:
        """The optimizer is gone: keep no tensor alive."""
        self.params, self.names, self.grads_before, self.wanted = [], [], None, frozenset()

    def parameters_event(self) -> dict[str, Any]:
        """Every parameter of the model and of the optimizer."""
        model = self.model() if self.model is not None else None
        known = {id(p): name for p, name in zip(self.params, self.names, strict=True)}
        everything = dict(zip(self.names, self.params, strict=True))
        for name, parameter in model.named_parameters() if model is not None else ():
            if id(parameter) not in known:
                everything[name] = parameter
        hidden = dict(unregistered(model)) if model is not None else {}
        everything |= {name: parameter for name, parameter in hidden.items() if name not in everything}
        ranks = {"ranks": shards.world_size()} if self.sharded else {}  # that hold the parts
        after_backward = any(p.grad is not None for p in self.params)
        return ranks | {
            "parameters": [
                {
                    "name": name,
                    "shape": list(parameter.shape),
                    "dtype": str(parameter.dtype).removeprefix("torch."),
                    "trainable": parameter.requires_grad,
                    "in_optimizer": id(parameter) in known,
                    # Before the first backward nothing has a gradient, and nothing is known.
                    "has_gradient": parameter.grad is not None if after_backward else None,
                    **({"unregistered": True} if hidden.get(name) is parameter else {}),
                }
                for name, parameter in everything.items()
            ]
        }

    def modules_event(self) -> dict[str, Any]:
        """Every module of the model, with the settings that matter."""
        model = self.model() if self.model is not None else None
        return {
            "modules": [
                {"name": naming.users_name(name), "class": type(module).__name__, **_settings(module)}
                for name, module in (model.named_modules() if model is not None else ())
            ]
        }

    def optimizer_event(self) -> dict[str, Any]:
        """Class and groups of the optimizer."""
        alive = self.optimizers[0]() if self.optimizers else None
        groups, _ = self.groups()
        plain = [
            {k: v for k, v in group.items() if isinstance(v, (int, float, str, tuple, bool))}
            for group in groups
        ]
        return {"class": type(alive).__name__ if alive is not None else "", "groups": plain}


def make_stream(params: list[Tensor], optimizers: list[Optimizer], claim: Callable[[str], bool]) -> Stream:
    """A stream named after the variable that holds its model; `claim(name)` says whether a name is free."""
    model = naming.find_model(params, optimizers[0] if optimizers else None)
    called = naming.variable_name(model) if model is not None else ""
    name, number = called or "model", 1
    while not claim(name + rank_suffix()):
        number += 1
        name = f"{called or 'model'}#{number}"
    modules = list(model.modules()) if model is not None else []
    if model is not None and len(optimizers) != 1:  # found in the order of the graph
        place = {id(parameter): index for index, parameter in enumerate(model.parameters())}
        params = sorted(params, key=lambda parameter: place.get(id(parameter), len(place)))
    return Stream(
        name=name + rank_suffix(),
        params=params,
        names=naming.parameter_names(params, model),
        optimizers=[weakref.ref(optimizer) for optimizer in optimizers],
        model=weakref.ref(model) if model is not None else None,
        module_ids=frozenset(map(id, modules)),
        with_modes=[weakref.ref(module) for module in modules if isinstance(module, _WITH_MODES)],
        cuts=shards.cuts(params, model),
    )


def mode_counts(stream: Stream) -> dict[str, tuple[int, int]]:
    """Per class of mode-dependent module: how many are in train mode, of how many."""
    counts: dict[str, tuple[int, int]] = {}
    for reference in stream.with_modes:
        module = reference()
        if module is not None:
            train, total = counts.get(type(module).__name__, (0, 0))
            counts[type(module).__name__] = (train + module.training, total + 1)
    return counts


def rank() -> int:
    """The rank of this process, as far as it is known by now."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", 0)) if os.environ.get("RANK", "").isdigit() else 0


def rank_suffix() -> str:
    return f"@{rank()}" if rank() else ""


def _settings(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _SETTINGS:
        value = module.__dict__.get(name)
        if isinstance(value, (int, float, bool, str, tuple)):
            found[name] = value
    return found


def copied(grad: Tensor | None) -> Tensor | None:
    """A copy outside of every graph."""
    return None if grad is None else grad.detach().clone()
