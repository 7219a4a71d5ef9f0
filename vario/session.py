"""Wires capture to instruments to the record: what is measured at which step, within the budget.

Four kinds of step are measured: `cheap` steps with what is there anyway, `call` steps with the arguments of
loss functions besides, `noise` steps with the gradients of single examples besides, and `probe` steps with
all but those. When each is due is decided by `budget`; where it is everything, every step reads everything.
Whatever fails in here is switched off and said once; the run of the user goes on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from vario.budget import FIRST, Budget
from vario.capture.moment import Moment, before_step, raw_needs
from vario.capture.needs import EXAMPLES
from vario.capture.shards import REFUSED, read_by_all, world_size
from vario.nouns import Reading

if TYPE_CHECKING:
    from vario.capture.streams import Stream
    from vario.capture.thinned import Thinned
    from vario.instruments._protocol import Instrument

__all__ = ["Session", "Writer"]

FREE = frozenset({"losses", "terms", "groups", "group_of", "times", "rows", "clip", "modes"})  # there anyway
CALL = FREE | {"loss_calls", "attacks"}
LOSS = "loss/train"  # read at nearly every step
KEPT = {  # read at many: by which instrument, for which part of what hooks leave of the budget at most
    "gradient/norm": ("gradient-norm", 0.15),
    "accuracy/train": ("accuracy", 0.1),
    "clipping/norm_before": ("clipping", 0.05),
}
COMPARED = frozenset({"losses", "terms", "times"})  # runs are compared by these, step by step
NEEDS = {
    "none": frozenset[str](),
    "cheap": FREE,
    "call": CALL,
    "noise": CALL | EXAMPLES | {"inputs"},
    "lost": FREE | {"inputs"},
}
TOGETHER = frozenset({"shards"})  # instruments for steps that all processes read
SELDOM = frozenset({"representation-rank"})  # instruments for probes whenever the run has doubled
KEPT_SECONDS = 0.25  # of losses that a run that is compared may keep back
LOST = 500  # steps after the loss broke of which the inputs are read: the run is lost, its cause need not be
LOST_IN_FULL = 8  # of these


class Writer(Protocol):
    """The part of `vario.record.store.RecordWriter` that is used."""

    def readings(self, stream: str, step: int, readings: Iterable[Reading]) -> None: ...
    def points(self, stream: str, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...
    def event(self, stream: str, step: int, kind: str, where: str, data: Mapping[str, Any]) -> None: ...
    def meta(self, key: str, value: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class _Plan:
    """What runs at the coming step of a stream, and what ran so far."""

    def __init__(self) -> None:
        self.probe = True
        self.next_probe = True
        self.kind = "probe"
        self.running: tuple[Instrument, ...] = ()
        self.doubled = 2  # step from which the seldom instruments run again; the first ones load enough
        self.lost = 0  # steps since the loss ceased to be a number
        self.moment: Moment | None = None
        self.events: list[tuple[int, str, str, dict[str, Any]]] = []  # at which step, what, where
        self.own_before = 0.0
        self.began = time.perf_counter()


class Session:
    """One watched process. `open_writer` is called at the first step, when the rank is known."""

    def __init__(
        self,
        open_writer: Callable[[], Writer],
        *,
        overhead: float = 0.03,
        instruments: Sequence[Instrument] | None = None,
        every_step: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._open_writer = open_writer
        self._writer: Writer | None = None
        self._instruments = instruments
        self._share, self._every_step = overhead, every_step
        self.own_time: Callable[[], float] = lambda: 0.0  # seconds that capture has spent, set by its owner
        self.ending: Callable[[], None] = lambda: None  # what an instrument with a memory still has to note
        self._say = say or _to_stderr
        self._plans: dict[str, _Plan] = {}
        self._budgets: dict[str, Budget] = {}
        self._streams: dict[str, Stream] = {}
        self._ran: dict[str, int] = {}
        self._switched_off: set[str] = set()
        self._said: set[str] = set()
        self._kinds: dict[str, tuple[tuple[Instrument, ...], frozenset[str]]] = {}
        self._current: Stream | None = None

    # ---- what capture tells

    def began(self, stream: Stream) -> None:
        if self._writer is None:
            self._writer = self._open_writer()
        self._plans[stream.name] = _Plan()
        place = len(self._budgets) + 1
        self._budgets[stream.name] = Budget(self._share, place=place, every_step=self._every_step)
        self._streams[stream.name] = stream
        for need, reason in REFUSED.items() if stream.sharded else ():
            self.event(stream, "refused", need, {"reason": reason})

    def wants(self, stream: Stream) -> frozenset[str]:
        self._current = stream
        plan, budget = self._plans[stream.name], self._budgets[stream.name]
        due = plan.next_probe or budget.share >= 1
        lost = 0 < plan.lost < LOST
        in_full = 0 < plan.lost < LOST_IN_FULL
        if lost and budget.share < 1 and not (in_full and due):
            plan.kind = "lost"
        else:
            together = world_size() == 1 or read_by_all(stream.step)  # joined is what all heard
            plan.kind = "probe" if lost else budget.kind(stream.step, probe=due, noise=together)
        plan.probe = plan.kind == "probe"
        plan.next_probe = (
            stream.step + 1 < FIRST
            or in_full
            or (due and not plan.probe)
            or budget.affords_probe(under_way=plan.probe)
        )
        plan.running, wanted = self._kinds.get(plan.kind) or self._kind(plan.kind)
        if plan.probe and stream.step < plan.doubled and budget.share < 1:
            plan.running = tuple(i for i in plan.running if i.name not in SELDOM)
        elif plan.probe:
            plan.doubled = 2 * stream.step
        if stream.sharded and read_by_all(stream.step):
            more = tuple(i for i in self._all() if i.name in TOGETHER and i not in plan.running)
            plan.running, wanted = plan.running + more, wanted.union(*(raw_needs(i.needs) for i in more))
        plan.moment = None
        return wanted | {"keep_grads", "grads"} if plan.next_probe else wanted

    def idle_steps(self, stream: Stream) -> int:
        plan, budget = self._plans[stream.name], self._budgets[stream.name]
        if plan.kind != "none" or plan.next_probe or 0 < plan.lost < LOST or stream.sharded:
            return 0
        due = min(period - stream.step % period for period in budget.periods.values())
        idle = min(budget.nothing_for(), due)
        if self._every_step:  # their losses wait for the end, and a run that is killed must not lose many
            idle = min(idle, int(KEPT_SECONDS / max(budget.plain, 1e-9)))
        return idle

    def loss_period(self, stream: Stream) -> int:
        return self._budgets[stream.name].loss_period(stream.step, stream.every_loss.cost())

    def losses(self, stream: Stream, steps: Sequence[int], losses: Sequence[float]) -> None:
        self._write("points", stream.name, LOSS, steps, losses)
        self._count(stream, "loss", len(steps))
        plan = self._plans[stream.name]
        if not plan.lost and not all(map(math.isfinite, losses)):
            plan.lost, plan.next_probe = 1, True

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        name, part = KEPT[kept.series]
        if name in self._switched_off or name not in self._names:
            return 0
        return self._budgets[stream.name].kept_period(name, stream.step, kept.cost(), part)

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        self._write("points", stream.name, series, steps, values)
        self._count(stream, KEPT[series][0], len(steps))

    def passed(self, stream: Stream, steps: int, offered: Sequence[Mapping[str, Any]]) -> None:
        plan = self._plans[stream.name]
        self._write_events(stream, stream.step - 1)
        for step, raw in enumerate(offered, stream.step - steps):
            self._measure(plan, Moment(stream.name, step, raw), stream)
        now, own = time.perf_counter(), self.own_time()
        self._budgets[stream.name].passed(steps, now - plan.began, own - plan.own_before)
        plan.began, plan.own_before = now, own

    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        plan = self._plans[stream.name]
        if not plan.running:
            return
        plan.moment = Moment(stream.name, stream.step, raw)
        if plan.probe or stream.sharded:
            plan.moment.prepare(before_step({need for i in plan.running for need in i.needs}))

    def stepped(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        plan, moment = self._plans[stream.name], self._plans[stream.name].moment
        self._write_events(stream, stream.step)
        if moment is not None:
            for need, value in raw.items():
                moment.offer(need, value)
            if plan.probe:  # all arithmetic is started before any is waited for
                moment.prepare({need for instrument in plan.running for need in instrument.needs})
            self._measure(plan, moment, stream)
            plan.moment = None
        now, own = time.perf_counter(), self.own_time()
        self._budgets[stream.name].stepped(now - plan.began, own - plan.own_before, plan.kind)
        plan.began, plan.own_before = now, own

    def readings(self, stream: Stream, readings: list[Reading]) -> None:
        self._write("readings", stream.name, stream.step - 1, readings)

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        plan = self._plans[stream.name]
        plan.events.append((stream.step, kind, where, data))
        if stream.over:
            self._write_events(stream, stream.step - 1)

    def note(self, stream: str, step: int, kind: str, where: str, data: Mapping[str, Any]) -> None:
        """An instrument noted something that is no number."""
        self._write("event", stream, step, kind, where, data)

    def failed(self, place: str, error: Exception) -> None:
        """A part of ours broke: into the record, and once on stderr."""
        text = f"{type(error).__name__}: {error}"
        if place not in self._said:
            self._said.add(place)
            self._say(f"vario: {place} is switched off ({text}); the run goes on.")
        if self._current is not None:
            where = self._current
            self._write(
                "event", where.name, where.step, "switched_off", place, {"instrument": place, "error": text}
            )

    def end(self, error: str, *, code: int) -> None:
        """The process ends, with an error or without."""
        try:
            self.ending()
        except Exception as problem:
            self.failed("what was kept for the end", problem)
        for stream in self._streams.values():
            self._write_events(stream, stream.step - 1)
            if stream is not self._current:  # its last steps may not have been measured
                self._write("event", stream.name, stream.step - 1, "ended", "", {})
        if self._current is not None:
            data = {"code": code, "signal": 0, "error": error}
            self._write("event", self._current.name, self._current.step - 1, "exit", "", data)
        self.close()

    def close(self) -> None:
        """Write the schedule that was kept, and everything that waits."""
        if self._writer is not None:
            self._write("meta", "schedule", self.schedule())
            self._write("close")
            self._writer = None

    def flush(self) -> None:
        """Make what has been measured readable."""
        for stream in self._streams.values():
            self._write_events(stream, stream.step - 1)
        self._write("meta", "schedule", self.schedule())
        self._write("flush")

    def schedule(self) -> dict[str, Any]:
        """On how many steps each instrument ran, and what watching cost."""
        return {
            name: {
                "steps": budget._steps,
                "ran": {
                    key.split("|", 1)[1]: n for key, n in self._ran.items() if key.startswith(f"{name}|")
                },
                "overhead": budget.own / budget.bare if budget.bare else None,
                "own_seconds": budget.own,
                "begun_seconds": budget.begun,
                "budget": budget.share,
            }
            for name, budget in self._budgets.items()
        }

    # ---- inside

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(instrument.name for instrument in self._all())

    def _all(self) -> Sequence[Instrument]:
        if self._instruments is None:
            from vario.instruments import ALL

            self._instruments = ALL
        return self._instruments

    def _kind(self, kind: str) -> tuple[tuple[Instrument, ...], frozenset[str]]:
        """The instruments of a kind of step, and what they need of it."""
        limit, all_of_it = NEEDS.get(kind), self._share >= 1
        if kind == "none" and self._every_step:
            limit = COMPARED
        running = tuple(i for i in self._all() if all_of_it or _belongs(i, limit))
        needs = raw_needs({need for instrument in running for need in instrument.needs})
        self._kinds[kind] = (running, needs)
        return self._kinds[kind]

    def _measure(self, plan: _Plan, moment: Moment, stream: Stream) -> None:
        """Write what the instruments of this kind of step find."""
        found: list[Reading] = []
        for instrument in plan.running:
            found.extend(self._read(instrument, moment, stream))
        plan.lost += plan.lost > 0
        dense: list[Reading] = []
        rest: list[Reading] = []
        for reading in found:
            is_dense = not reading.where and (reading.series == LOSS or reading.series in KEPT)
            (dense if is_dense else rest).append(reading)
        if rest:
            self._write("readings", stream.name, moment.step, rest)
        for reading in dense:
            value = cast(float, reading.value)
            self._write("points", stream.name, reading.series, [moment.step], [value])
            plan.lost = plan.lost or int(reading.series == LOSS and not math.isfinite(value))

    def _read(self, instrument: Instrument, moment: Moment, stream: Stream) -> list[Reading]:
        if instrument.name in self._switched_off:
            return []
        try:
            found = list(instrument.read(moment.declared(instrument.needs)))
        except Exception as error:
            self._switched_off.add(instrument.name)
            self.failed(instrument.name, error)
            return []
        self._count(stream, instrument.name, 1)
        return found

    def _count(self, stream: Stream, instrument: str, steps: int) -> None:
        key = f"{stream.name}|{instrument}"
        self._ran[key] = self._ran.get(key, 0) + steps

    def _write_events(self, stream: Stream, last: int) -> None:
        """Events belong to the step under way, so they wait for its end; `last` is the last that has one."""
        events, self._plans[stream.name].events = self._plans[stream.name].events, []
        for step, kind, where, data in events:
            self._write("event", stream.name, min(step, last), kind, where, data)

    def _write(self, what: str, *arguments: Any) -> None:
        """A record that cannot be written is said once; what is measured is then lost, not the run."""
        if self._writer is None:
            return
        try:
            getattr(self._writer, what)(*arguments)
        except Exception as error:
            if "the record" not in self._said:
                self._said.add("the record")
                self._say(f"vario: not recorded: {error} The run goes on.")


def _belongs(instrument: Instrument, limit: frozenset[str] | None) -> bool:
    """Whether it reads something, and nothing outside of `limit`; without one, no single examples."""
    needs = raw_needs(instrument.needs)
    return not needs & EXAMPLES if limit is None else bool(needs) and needs <= limit


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
