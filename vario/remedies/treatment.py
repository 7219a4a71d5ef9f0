"""A treatment: what a trial changes in a script that stays as it is, as data that travels to its processes.

A treatment holds plain settings (``optimizer.lr=0.1``), methods of the catalogue, classes of
``torch.optim``, factories in a file of the user, and the offset of the seeds. ``slots`` puts it in.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.remedies import treatment_words as words

__all__ = ["MethodUse", "Treatment"]

_SET = re.compile(r"(?:set:)?\s*([A-Za-z_]\w*)((?:\.\w+)+)\s*=(.*)", re.S)
_FACTORY = re.compile(r"(.+\.py):(\w+)(?::(.*))?", re.S)
_METHOD = re.compile(r"([\w-]+)(?::(.*))?", re.S)
_NEXT_PART = re.compile(r"\+(?=[A-Za-z_./~])")  # not the one of 1e+3
_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # not those of (0.9,0.95)

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MethodUse:
    """A method by id, a class of ``torch.optim``, or ``factory``: ``path/to/file.py:function``."""

    method: str
    options: Pairs = ()
    factory: str = ""

    @property
    def slot(self) -> str:
        """Where it goes: the slot of the method's card, or of what the factory is given."""
        return words.factory_slot(self.factory) if self.factory else words.slot_of(self.method)

    def of_length(self, steps: int, epochs: int) -> MethodUse:
        """The same with what it counts, and was left open, as a run of that length has it."""
        left_open = () if self.factory else words.uncounted(self.method, dict(self.options))
        known = words.counts(steps, epochs)
        return dataclasses.replace(
            self, options=(*self.options, *((key, str(known[key])) for key in left_open))
        )


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is changed; ``Treatment("baseline")`` changes nothing.

    ``seed`` is the offset that is added to every seed of the script; None leaves all seeds alone, and 0
    does so too but seeds what a script never seeds (the generators of Python, numpy and torch).
    ``only_tried``: the script ends as soon as all has been put in.
    """

    name: str
    settings: Pairs = ()
    methods: tuple[MethodUse, ...] = ()
    seed: int | None = None
    only_tried: bool = False

    @classmethod
    def parse(cls, text: str) -> Treatment:
        """What ``--with`` takes: parts joined by ``+``, each one of

        ``METHOD[:key=value,...]``, ``optimizer.lr=0.1`` (also ``lr=0.1`` or ``set:optimizer.lr=0.1``),
        ``AdamW[:key=value,...]`` of ``torch.optim``, ``path/to/file.py:function[:key=value,...]``.

        Raises VarioError for what does not exist, and for what cannot be put into an unmodified script.
        """
        settings: list[tuple[str, str]] = []
        methods: list[MethodUse] = []
        for part in _NEXT_PART.split(text.strip()):
            if found := _SET.fullmatch(_written_out(part.strip())):
                settings.append(_setting(found))
            else:
                methods.append(_use(part.strip()))
        _no_twins(text, settings, methods)
        return cls(text.strip(), tuple(settings), tuple(methods))

    @classmethod
    def parse_set(cls, text: str) -> Treatment:
        """What ``--set`` takes: one or more of ``slot.key=value``, joined by ``+``."""
        if all(_SET.fullmatch(_written_out(part.strip())) for part in _NEXT_PART.split(text.strip())):
            return cls.parse(text)
        raise VarioError(f"--set {text}: write slot.key=value, such as optimizer.lr=0.1.")

    @property
    def is_identity(self) -> bool:
        """Whether nothing of the script is changed but perhaps its seeds."""
        return not self.settings and not self.methods

    def with_seed(self, offset: int | None) -> Treatment:
        """The same with another offset of the seeds."""
        return dataclasses.replace(self, seed=offset)

    def slots(self) -> tuple[str, ...]:
        """The slots that it needs to reach, in the order of the text."""
        named = [key.partition(".")[0] for key, _ in self.settings] + [use.slot for use in self.methods]
        return tuple(dict.fromkeys(named))

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Options of its methods that count a run's steps or epochs, and were left open."""
        return tuple(
            key
            for use in self.methods
            if not use.factory
            for key in words.uncounted(use.method, dict(use.options))
        )

    def of_length(self, *, steps: int, epochs: int) -> Treatment:
        """The same with those options as a run of that length has them."""
        return dataclasses.replace(self, methods=tuple(use.of_length(steps, epochs) for use in self.methods))

    def to_json(self) -> str:
        """One line that ``from_json`` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Treatment:
        """The treatment that ``to_json`` wrote."""
        raw: dict[str, Any] = json.loads(text)
        methods = tuple(
            MethodUse(use["method"], _pairs(use.get("options", ())), use.get("factory", ""))
            for use in raw.get("methods", ())
        )
        settings, tried = _pairs(raw.get("settings", ())), bool(raw.get("only_tried"))
        return cls(raw["name"], settings, methods, raw.get("seed"), tried)


def _pairs(rows: Any) -> Pairs:
    return tuple((str(key), str(value)) for key, value in rows)


def _written_out(part: str) -> str:
    """``lr=0.1`` as ``optimizer.lr=0.1``."""
    key, equals, value = part.partition("=")
    return f"{words.SHORT[key]}={value}" if equals and key in words.SHORT else part


def _setting(found: re.Match[str]) -> tuple[str, str]:
    slot, key, value = found[1], found[2][1:], found[3].strip()
    words.check_setting(slot, key, value)
    return f"{slot}.{key}", value


def _use(part: str) -> MethodUse:
    if found := _FACTORY.fullmatch(part):
        place = Path(found[1]).expanduser().resolve()  # the script may run in another folder
        use = MethodUse(found[2], tuple(_options(part, found[3])), f"{place}:{found[2]}")
        words.check_factory(use.factory, dict(use.options))
        return use
    found = _METHOD.fullmatch(part)
    if not found:
        raise VarioError(
            f"--with {part!r}: write METHOD, METHOD:key=value,key=value, optimizer.lr=0.1 or "
            f"path/to/file.py:function."
        )
    name = words.method_name(found[1])
    use = MethodUse(name, tuple(_options(part, found[2])))
    words.check_method(name, dict(use.options))
    return use


def _options(part: str, text: str | None) -> Iterator[tuple[str, str]]:
    for pair in _COMMA.split(text) if text else []:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise VarioError(f"--with {part}: {pair!r} is not key=value.")
        yield key.strip(), value.strip()


def _no_twins(text: str, settings: list[tuple[str, str]], methods: list[MethodUse]) -> None:
    """One slot takes one replacement; wrappers of an optimizer can be stacked."""
    keys = [key for key, _ in settings]
    for key in keys:
        if keys.count(key) > 1:
            raise VarioError(f"{text}: {key} is set twice.")
    courses = [use.method for use in methods if use.slot == "schedule"]
    courses += [key for key in keys if key in ("schedule.warmup_steps", "schedule.stop_after")]
    if len(courses) > 1:
        raise VarioError(
            f"{text}: {' and '.join(courses)} both set the course of the rate; try them one by one."
        )
    if {"input.mean", "input.std"} & {*keys} and "input.standardized" in keys:
        raise VarioError(f"{text}: input.standardized takes its own mean and spread; leave the others out.")
    for slot in words.SINGLE:
        uses = [use.method for use in methods if use.slot == slot]
        if len(uses) > 1:
            raise VarioError(f"{text}: {' and '.join(uses)} both replace the {slot}; try them one by one.")
