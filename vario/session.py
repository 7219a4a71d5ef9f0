"""Wires capture to instruments to the record: what is measured at which step, within the budget.

Three kinds of step are measured, each with all that the one before it reads: `cheap` steps with what is
there anyway, `call` steps with the arguments of loss functions, `probe` steps with everything. Time may be
spent on them as it is earned: a share of the run's own time, and a small grant at the start that makes early
steps denser.
Whatever fails in here is switched off and said once; the run of the user goes on.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from vario.capture.moment import Moment, before_step, raw_needs
from vario.nouns import Reading

if TYPE_CHECKING:
    from vario.capture.streams import Stream
    from vario.instruments._protocol import Instrument

__all__ = ["Budget", "Session", "Writer"]

FREE = frozenset({"losses", "groups", "group_of", "times", "rows", "clip", "modes"})  # there anyway
NEEDS = {"none": frozenset[str](), "cheap": FREE, "call": FREE | {"loss_calls"}}  # a probe is without limit
SHARES = {"cheap": 0.4, "call": 0.3}  # of what the hooks leave of the budget; the rest is for probes
SELDOM = {"cheap": 64, "call": 256}  # steps from one to the next at most
GRANT = 0.5  # seconds over the budget: a run of a few hundred quick steps can be diagnosed at all
FIRST = 3  # steps that are always measured in full
EARLY = 4  # with the grant: a probe when 1/4 of the run so far has passed since the last one
LOST = 500  # steps measured in full after the loss broke: the run is lost anyway, and its cause need not be
WARMED = 8  # steps after which the time of a step can be believed


class Writer(Protocol):
    """The part of `vario.record.store.RecordWriter` that is used."""

    def readings(self, stream: str, step: int, readings: Iterable[Reading]) -> None: ...
    def event(self, stream: str, step: int, kind: str, where: str, data: Mapping[str, Any]) -> None: ...
    def meta(self, key: str, value: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Budget:
    """How much of a run's time has been spent on watching it, and whether a probe can be afforded."""

    def __init__(self, share: float, *, every_step: bool = False) -> None:
        self.share = share
        self.every_step = every_step  # the cheap instruments, whatever they cost
        self.own = 0.0  # seconds in our code at ordinary steps and probes
        self.bare = 0.0  # seconds of the script itself
        self._plain: deque[float] = deque(maxlen=33)  # steps without a probe, bare
        self._probe: deque[float] = deque(maxlen=9)  # own seconds of a probe
        self._slower: deque[float] = deque(maxlen=33)  # what the next step took longer
        self._costs = {
            kind: deque[float](maxlen=33) for kind in NEEDS
        }  # own seconds; `none`: the hooks alone
        self.probe_cost = 0.0  # seconds that the next probe should cost, its slower successor included
        self.periods = {"cheap": 1, "call": EARLY}  # every how many steps each kind is due
        self.plain = 0.0  # seconds of a step that is not measured
        self._purse = 0.0
        self._grant = GRANT
        self._since = 0
        self._steps = 0
        self._after_probe = False

    def kind(self, step: int) -> str:
        """The kind of a step that is no probe."""
        due = [kind for kind, period in self.periods.items() if step % period == 0]
        return due[-1] if due else "none"

    def stepped(self, seconds: float, own: float, kind: str) -> None:
        """A step of this kind took `seconds` in all, `own` of them in our code."""
        probe = kind == "probe"
        bare = max(0.0, seconds - own)
        self._steps += 1
        self._since = 0 if probe else self._since + 1
        if self._steps <= FIRST:
            return  # the first steps warm up everything: they tell nothing of later ones
        self.own += own
        self.bare += bare
        self._purse = min(self._purse + self.share * bare - own, 2 * self.probe_cost + 0.01)
        if probe:
            self._probe.append(own)
        else:
            self._costs[kind].append(own)
            if self._after_probe and self.plain:
                slower = bare - self.plain
                self._slower.append(slower)
                self._purse -= max(0.0, min(slower, self.probe_cost))
            else:
                self._plain.append(bare)
        self._after_probe = probe
        if probe or self._steps % EARLY == 0:
            self._estimate()

    def passed(self, steps: int, seconds: float, own: float) -> None:
        """So many steps without any instrument took `seconds` together, `own` of them in our code."""
        bare = max(0.0, seconds - own)
        self._steps += steps
        self._since += steps
        self.own += own
        self.bare += bare
        self._purse = min(self._purse + self.share * bare - own, 2 * self.probe_cost + 0.01)
        self._costs["none"].append(own / steps)
        self._plain.append(bare / steps)
        self._estimate()

    def _estimate(self) -> None:
        self.plain = statistics.median(self._plain) if self._plain else 0.0
        slower = max(0.0, statistics.median(self._slower)) if self._slower else 0.0
        self.probe_cost = (statistics.median(self._probe) if self._probe else 0.0) + slower
        if self.share < 1 and len(self._plain) >= WARMED:
            # means, because on a busy machine some take very long
            mean = {kind: statistics.fmean(costs) for kind, costs in self._costs.items() if costs}
            idle = mean.get("none", 0.0)
            left = max(self.share * statistics.fmean(self._plain) - idle, 0.0)
            for kind in mean.keys() & SHARES.keys() - ({"cheap"} if self.every_step else set()):
                period = (mean[kind] - idle) / max(SHARES[kind] * left, 1e-9)
                self.periods[kind] = max(1, min(SELDOM[kind], round(period)))

    def nothing_for(self) -> int:
        """For how many steps to come no probe will surely be afforded."""
        if (
            self.share >= 1
            or self.every_step
            or self._steps < FIRST
            or self._after_probe
            or not (self.plain and self.probe_cost)
        ):
            return 0
        ahead = [
            (self.probe_cost - self._purse) / (self.share * self.plain),
            self._steps - 2 * self._since,  # as often as the run doubles
        ]
        if self._grant > 0:
            ahead.append(self._steps / EARLY - self._since)
        return max(0, int(min(ahead)))

    def affords_probe(self) -> bool:
        """Whether the step that begins now may be measured in full."""
        if self.share >= 1 or self._steps < FIRST:
            return True
        cost = self.probe_cost
        if self._purse >= cost and (cost or self._since >= EARLY):
            return True
        if self._since >= max(self._steps / 2, EARLY):  # however poor: as often as the run doubles
            return True
        if self._grant > 0 and self._since >= self._steps / EARLY:
            self._grant -= max(cost, 1e-4)
            self._purse += cost
            return True
        return False


class _Plan:
    """What runs at the coming step of a stream, and what ran so far."""

    def __init__(self) -> None:
        self.probe = True
        self.next_probe = True
        self.kind = "probe"
        self.running: tuple[Instrument, ...] = ()
        self.lost = 0  # steps since the loss ceased to be a number
        self.moment: Moment | None = None
        self.events: list[tuple[str, str, dict[str, Any]]] = []
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
        self._budgets[stream.name] = Budget(self._share, every_step=self._every_step)
        self._streams[stream.name] = stream

    def wants(self, stream: Stream) -> frozenset[str]:
        self._current = stream
        plan, budget = self._plans[stream.name], self._budgets[stream.name]
        plan.probe = plan.next_probe or budget.share >= 1
        plan.next_probe = stream.step + 1 < FIRST or 0 < plan.lost < LOST or budget.affords_probe()
        plan.kind = "probe" if plan.probe else budget.kind(stream.step)
        plan.running, wanted = self._kinds.get(plan.kind) or self._kind(plan.kind)
        plan.moment = None
        return wanted | {"keep_grads", "grads"} if plan.next_probe else wanted

    def idle_steps(self, stream: Stream) -> int:
        plan, budget = self._plans[stream.name], self._budgets[stream.name]
        if plan.kind != "none" or plan.next_probe or 0 < plan.lost < LOST:
            return 0
        due = min(period - stream.step % period for period in budget.periods.values())
        return min(budget.nothing_for(), due)

    def passed(self, stream: Stream, steps: int) -> None:
        plan, now, own = self._plans[stream.name], time.perf_counter(), self.own_time()
        self._write_events(stream, stream.step - 1)
        self._budgets[stream.name].passed(steps, now - plan.began, own - plan.own_before)
        plan.began, plan.own_before = now, own

    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        plan = self._plans[stream.name]
        if not plan.running:
            return
        plan.moment = Moment(stream.name, stream.step, raw)
        if plan.probe:
            plan.moment.prepare(before_step({need for i in plan.running for need in i.needs}))

    def stepped(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        plan, moment = self._plans[stream.name], self._plans[stream.name].moment
        self._write_events(stream, stream.step)
        if moment is not None:
            for need, value in raw.items():
                moment.offer(need, value)
            if plan.probe:  # all arithmetic is started before any is waited for
                moment.prepare({need for instrument in plan.running for need in instrument.needs})
            found: list[Reading] = []
            for instrument in plan.running:
                found.extend(self._read(instrument, moment, stream))
            if found:
                self._write("readings", stream.name, stream.step, found)
            broken = any(r.series == "loss/train" and not math.isfinite(cast(float, r.value)) for r in found)
            plan.lost += broken or plan.lost > 0
            plan.moment = None
        now, own = time.perf_counter(), self.own_time()
        self._budgets[stream.name].stepped(now - plan.began, own - plan.own_before, plan.kind)
        plan.began, plan.own_before = now, own

    def readings(self, stream: Stream, readings: list[Reading]) -> None:
        self._write("readings", stream.name, stream.step - 1, readings)

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        plan = self._plans[stream.name]
        plan.events.append((kind, where, data))
        if stream.over:
            self._write_events(stream, stream.step - 1)

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
        for stream in self._streams.values():
            self._write_events(stream, stream.step - 1)
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
                "budget": budget.share,
            }
            for name, budget in self._budgets.items()
        }

    # ---- inside

    def _all(self) -> Sequence[Instrument]:
        if self._instruments is None:
            from vario.instruments import ALL

            self._instruments = ALL
        return self._instruments

    def _kind(self, kind: str) -> tuple[tuple[Instrument, ...], frozenset[str]]:
        """The instruments of a kind of step, and what they need of it."""
        limit = NEEDS.get(kind)
        running = tuple(i for i in self._all() if limit is None or _within(i, limit))
        needs = raw_needs({need for instrument in running for need in instrument.needs})
        self._kinds[kind] = (running, needs)
        return self._kinds[kind]

    def _read(self, instrument: Instrument, moment: Moment, stream: Stream) -> list[Reading]:
        if instrument.name in self._switched_off:
            return []
        try:
            found = list(instrument.read(moment.declared(instrument.needs)))
        except Exception as error:
            self._switched_off.add(instrument.name)
            self.failed(instrument.name, error)
            return []
        key = f"{stream.name}|{instrument.name}"
        self._ran[key] = self._ran.get(key, 0) + 1
        return found

    def _write_events(self, stream: Stream, step: int) -> None:
        """Events belong to the step that ends them, so they wait for it."""
        events, self._plans[stream.name].events = self._plans[stream.name].events, []
        for kind, where, data in events:
            self._write("event", stream.name, step, kind, where, data)

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


def _within(instrument: Instrument, limit: frozenset[str]) -> bool:
    """Whether it reads something, and nothing outside of `limit`."""
    needs = raw_needs(instrument.needs)
    return bool(needs) and needs <= limit


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
