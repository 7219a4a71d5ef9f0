"""Slots: how a treatment is put into an unmodified script, one function for each kind.

Called in the script's process right after torch is imported, before the script's own code goes on.
What was done and what could not be is told in the record (see ``slots_told``); where a slot fails, the
process ends with exit code 97. The identity treatment touches nothing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vario.remedies import treatment_words as words
from vario.remedies.slots_told import Teller, Told
from vario.remedies.treatment import MethodUse, Treatment

__all__ = ["put_in", "put_in_from_environment"]


def put_in_from_environment() -> None:
    """Put in what the trial asked for in the environment."""
    put_in(Treatment.from_json(os.environ["VARIO_TREATMENT"]))


def put_in(treatment: Treatment, *, tell: Teller | None = None) -> list[str]:
    """Put the treatment into this process; one line for each thing that will be done.

    ``tell(kind, slot, data)`` is told the events; by default they go into the record of the run.
    """
    from vario.capture.exits import at_exit

    told = Told(treatment.name, tell, until=treatment.slots() if treatment.only_tried else ())
    lines: list[str] = []
    if treatment.seed is not None:
        from vario.remedies.slots_seed import shift_seeds

        lines.append(shift_seeds(treatment.seed, told))
    if place := os.environ.get("VARIO_KEPT"):
        from vario.remedies.slots_files import keep_files

        keep_files(Path(place), told)
    if treatment.is_identity:
        return lines
    at_exit(lambda error: told.end())
    slots = _Slots(told, treatment.seed or 0)
    place = "treatment"
    try:
        for use in treatment.methods:
            place = use.slot
            lines.append(slots.use(use))
        for key, value in treatment.settings:
            place, _, name = key.partition(".")
            lines.append(slots.set(place, name, value))
        slots.listen()
    except Exception as error:  # also a package that is not installed
        told.fail(place, f"{type(error).__name__}: {error}")
    return lines


class _Slots:
    """The slots of this process; those around steps and loaders are shared by several parts."""

    def __init__(self, told: Told, seed: int) -> None:
        from vario.remedies.slots_loader import Loaders
        from vario.remedies.slots_model import Models
        from vario.remedies.slots_step import Steps

        self.told, self.seed = told, seed
        self.steps, self.loaders, self.models = Steps(told), Loaders(told), Models(told)
        self._replacements: list[Callable[[], Any]] = []

    def listen(self) -> None:
        """The rates that the script types are noted before its optimizer is replaced."""
        steps = self.steps
        if steps.wanted():
            steps.listen()
        if self.models.settings:
            self.models.listen()
        if self._uses_loaders():
            self.loaders.listen()
        for replace in self._replacements:
            replace()

    def _uses_loaders(self) -> bool:
        loaders = self.loaders
        wanted = (loaders.batch_size, loaders.drop_last, loaders.shuffle, loaders.sampler, loaders.factory)
        return any(want is not None for want in wanted) or loaders.batch_factor != 1 or loaders.drop_broken

    def set(self, slot: str, key: str, text: str) -> str:
        value: Any = words.parsed(text)
        if slot == "optimizer":
            self.steps.settings[key] = value
        elif slot == "loader":
            setattr(self.loaders, key, value)
        elif slot == "gradient":
            setattr(self.steps, key, float(value) if key == "clip_norm" else value)
        elif (slot, key) == ("schedule", "slower"):
            from vario.remedies.slots_schedule import slow_down

            return slow_down(value, self.told)
        elif slot == "schedule":
            course = {"warmup_steps": _warmup, "stop_after": _stop}[key]
            self.steps.schedule = lambda optimizer: course(value)
        elif slot == "loss":
            from vario.remedies.slots_loss import set_loss

            return set_loss(key, value, self.told)
        elif slot == "layer":
            from vario.remedies.slots_layer import set_layer

            return set_layer(key, text, self.told)
        else:
            self.models.settings.setdefault(slot, {})[key] = value
        return f"{slot}: {key}={text}"

    def use(self, use: MethodUse) -> str:
        options = {key: words.parsed(text) for key, text in use.options}
        if use.factory:
            return self._factory(use, options)
        makers: dict[str, Callable[[str, dict[str, Any]], str]] = {
            "optimizer": self._optimizer,
            "optimizer-around": self._around,
            "schedule": self._schedule,
            "sampler": self._sampler,
            "layer": self._layer,
            "loss": self._loss,
            "rule-of-change": self._rule,
        }
        words.check_method(use.method, dict(use.options))
        return makers[use.slot](use.method, options)

    # ---- one for each slot of the cards

    def _optimizer(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_optimizer import replace_optimizer, target_of

        target_of(method)
        if "lr" in options:
            self.steps.settings["lr"] = options["lr"]
        self._replacements.append(lambda: replace_optimizer(method, options, self.told))
        return f"optimizer: {method}"

    def _around(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_optimizer import target_of, wrap_optimizer

        if "seed" in words.options_of(method):
            options.setdefault("seed", self.seed)
        if getattr(target_of(method), "second_pass", False):
            self.steps.needs_closure = method
        self._replacements.append(lambda: wrap_optimizer(method, options, self.told))
        return f"optimizer-around: {method}"

    def _schedule(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_optimizer import target_of

        target = target_of(method)
        self.steps.schedule = lambda optimizer: _scheduler(target, options)
        self.steps.schedule_replaces = (
            method != "gradual-warmup"
        )  # a warm-up goes before what the script does
        return f"schedule: {method}"

    def _sampler(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_sampler import put_in_sampler

        return put_in_sampler(method, options, self.told, self.loaders, self.seed)

    def _layer(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_layer import method_layer

        return method_layer(method, options, self.told)

    def _loss(self, method: str, options: dict[str, Any]) -> str:
        from vario.remedies.slots_loss import replace_loss

        return replace_loss(method, options, self.told)

    def _rule(self, method: str, options: dict[str, Any]) -> str:
        """A batch that is ``factor`` times as large, and the optimizer's settings moved with it."""
        import torch

        from vario.methods.schedules import scale_settings

        factor, rule = float(options["factor"]), options.get("rule")

        def scaled(group: dict[str, Any]) -> dict[str, Any]:
            apart = group.get("decoupled_weight_decay", False)
            return scale_settings({**group, "decoupled_weight_decay": apart}, factor, rule=rule)

        del torch
        self.steps.scale, self.loaders.batch_factor = scaled, factor
        self.told.expects(
            "loader", "no DataLoader was iterated for training, so the batch stayed what it was"
        )
        return f"rule-of-change: {method} by {factor:g}"

    def _factory(self, use: MethodUse, options: dict[str, Any]) -> str:
        place, _, name = use.factory.rpartition(":")
        spec = importlib.util.spec_from_file_location(f"vario_factory_{Path(place).stem}", place)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function = getattr(module, name)
        if use.slot == "optimizer":
            from vario.remedies.slots_optimizer import factory_optimizer

            self._replacements.append(lambda: factory_optimizer(function, options, self.told))
        elif use.slot == "layer":
            from vario.remedies.slots_layer import factory_layer

            return factory_layer(function, str(options.pop("of")), options, self.told)
        else:
            self.loaders.factory = (use.slot, function, options)
        return f"{use.slot}: {use.factory}"


def _warmup(steps: int) -> Callable[[], float]:
    taken = [0]

    def factor() -> float:
        taken[0] += 1
        return min(1.0, taken[0] / steps)

    return factor


def _stop(after: int) -> Callable[[], float]:
    """The weights of that many steps stay: every later step has the rate 0."""
    taken = [0]

    def factor() -> float:
        taken[0] += 1
        return float(taken[0] <= after)

    return factor


def _scheduler(target: Callable[..., Any], options: dict[str, Any]) -> Callable[[], float]:
    """The factors of a scheduler, read from one that moves the rate 1 of a stand-in."""
    import torch

    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = target(stand_in, **options)

    def factor() -> float:
        now = float(scheduler.get_lr()[0])
        scheduler.last_epoch += 1
        return now

    return factor
