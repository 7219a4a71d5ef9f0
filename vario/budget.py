"""How much of a run's time may go into watching it: what each kind of step costs, and which is due.

Two kinds are dear and have a purse each: probes, and steps with the gradients of single examples (noise). A
purse fills with a share of the script's own time; a grant at the start makes early steps denser. A second
model gets half of it, a third a third: searches and folds train dozens in one process.
The others are due every so many steps. A step costs what our code takes, and besides what the script's own
code takes longer for it, on that step and on the next: it finds the caches filled by us.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

__all__ = ["FIRST", "Budget"]

SHARES = {"cheap": 0.25, "call": 0.2}  # of what the hooks leave of the budget; probes take the rest
NOISE = 0.2  # of the budget
SELDOM = {"cheap": 64, "call": 256}  # steps from one to the next at most
GRANTS = {"probe": 0.3, "noise": 0.2}  # seconds: a run of a few hundred quick steps can be diagnosed at all
POOR = {"probe": 1 / 2, "noise": 3 / 4}  # due however poor when it has passed: as the run doubles, quadruples
POOREST = 0.1  # but of the script's own time so far no more than this for one of them
OFTEN = {"probe": 4, "noise": 12}  # with the grant: due when this part of the run has passed since the last
EVERY_LOSS = 2e-5  # seconds that it takes to keep and tell the loss of a step, until it is measured
LEAST = 0.25  # of the budget is left for them, whatever hooks take
LOSSES = 0.25  # of what hooks leave of the budget, at most, goes into those of steps that are not measured
EVERY = 1e-4  # seconds that another number of such a step takes, until it is measured
MANY = 17  # bits of a step: with each further one half as many losses are kept, so that a record stays small
FIRST = 3  # steps that are always measured in full
EARLY = 4  # steps from one to the next at least, while the cost is not known
WARMED = 8  # steps after which the time of a step can be believed
STALE = 64  # steps after which what a step costs is estimated anew at the latest: that costs time itself


class Purse:
    """Seconds put by for one dear kind of step."""

    def __init__(self, kind: str, granted: float) -> None:
        self.held, self.grant = 0.0, GRANTS[kind] * granted
        self._often, self._poor = OFTEN[kind], POOR[kind]
        self.cost = 0.0  # seconds that the next one should take
        self.since = 0  # steps
        self._granted = 0  # that are decided and not yet taken

    def add(self, seconds: float) -> None:
        """Not more than two of them are saved for."""
        self.held = min(self.held + seconds, 2 * self.cost + 0.01)

    def affords(self, steps: int, bare: float, *, under_way: bool = False) -> bool:
        """Whether the step that begins now may be of this kind; `under_way`: the one after it, which is.

        After so many steps, and so many seconds of the script's own.
        """
        since, held = (0, self.held - self.cost) if under_way else (self.since, self.held)
        if held >= self.cost and (self.cost or since >= EARLY):
            return True
        if since >= max(self._poor * steps, EARLY) and self.cost <= POOREST * bare:
            return True
        granted = self.grant > 0 and self.grant >= self.cost and since * self._often >= steps
        self._granted += granted
        return granted

    def taken(self, seconds: float) -> float:
        """It has cost so much; how much of that is paid by the grant."""
        self.since = 0
        paid, self._granted = seconds if self._granted else 0.0, max(0, self._granted - 1)
        self.grant -= paid
        return paid

    def ahead(self, steps: int, bare: float, step: float, share: float) -> float:
        """Steps to come, each of so many seconds and earning a share of them, that surely are not of it."""
        if not self.cost or not step:
            return 0.0
        poor = (self._poor * steps - self.since) / (1 - self._poor)
        first = min((self.cost - self.held) / (share * step), max(poor, (self.cost / POOREST - bare) / step))
        granted = self.grant > 0 and self.grant >= self.cost
        return min(first, steps / self._often - self.since) if granted else first


class Budget:
    """How much of a run's time has been spent on watching it, and what can be afforded."""

    def __init__(self, share: float, *, place: int = 1, every_step: bool = False) -> None:
        self.share = share
        self.every_step = every_step  # something is read at every one, whatever it costs; no grant then
        self.own = 0.0  # seconds that watching took
        self.begun = 0.0  # of these, in the first steps and paid by the grants
        self.bare = 0.0  # seconds of the script without it
        self.plain = 0.0  # seconds of a step that is not measured
        granted = 0.0 if every_step else 1 / place  # the first, second, third model of the process
        self.probes, self.noise = Purse("probe", granted), Purse("noise", granted)
        self.periods = {"cheap": 1, "call": EARLY}  # every how many steps each of these is due
        self._own: dict[str, deque[float]] = {}  # seconds in our code, by kind of step; `none`: hooks alone
        self._bare: dict[str, deque[float]] = {}  # seconds of the script; besides `after` a dear one
        self._hidden: dict[str, float] = {}  # what the script takes longer
        self._kept: dict[str, float] = {}  # seconds a step, of what is kept of steps that are not measured
        self._hooks = 0.0  # seconds a step, of hooks alone
        self._steps = self._stale = 0
        self._before = "none"  # kind of the step before
        self._dear = "probe"  # kind of the last dear one
        self._noise_known = False

    def kind(self, step: int, *, probe: bool, noise: bool = True) -> str:
        """The kind of the step that begins. `probe`: one is due; it waits where it is the turn of noise.
        `noise`: such a step may be now."""
        turn = self.share < 1 and self._steps >= FIRST and (not probe or self._dear == "probe")
        if turn and noise and self.noise.affords(self._steps, self.bare):
            return "noise"
        if probe:
            return "probe"
        due = [kind for kind, period in self.periods.items() if step % period == 0]
        return due[-1] if due else "none"

    def loss_period(self, step: int, cost: float | None) -> int:
        """Of every how many steps that are not measured one has its loss kept; 0: of none.

        `cost`: seconds that one takes, if that is known.
        """
        return self._period("loss", step, LOSSES, cost or EVERY_LOSS)

    def kept_period(self, name: str, step: int, cost: float | None, part: float) -> int:
        """The same of another number of a step, for so much of what hooks leave of the budget."""
        return self._period(name, step, part, cost or EVERY)

    def _period(self, name: str, step: int, part: float, cost: float) -> int:
        budget = self.share * self.plain
        paid = part * max(budget - self._hooks, LEAST * budget)
        self._kept[name] = 0.0
        if self.share >= 1 or self.every_step or paid <= 0:
            return 0
        period = max(math.ceil(cost / paid), 1 << (step >> MANY).bit_length())
        self._kept[name] = cost / period
        return period

    def affords_probe(self, *, under_way: bool = False) -> bool:
        """Whether the next step may be measured in full; `under_way`: so is the one that begins now."""
        if self.share >= 1 or self._steps < FIRST:
            return True
        return self.probes.affords(self._steps, self.bare, under_way=under_way)

    def stepped(self, seconds: float, own: float, kind: str) -> None:
        """A step of this kind took `seconds` in all, `own` of them in our code."""
        self._steps += 1
        before, self._before = self._before, kind
        self._dear = kind if kind in ("probe", "noise") else self._dear
        self.probes.since += 1
        self.noise.since += 1
        warming = self._steps <= FIRST or (kind == "noise" and not self._noise_known)
        self._noise_known |= kind == "noise"
        if warming:  # all that is done for the first time tells little of later ones
            self.own, self.bare = self.own + own, self.bare + max(0.0, seconds - own)
            self.begun += own
            (self.noise if kind == "noise" else self.probes).taken(0.0)
            if kind == "noise":
                self.noise.cost = own
            return
        after = before in ("probe", "noise") and kind not in ("probe", "noise")
        script = max(0.0, seconds - own)
        self._note(self._own, kind, own)
        self._note(self._bare, f"after {before}" if after else kind, script)
        hidden = self._hidden.get(f"after {before}" if after else kind, 0.0)
        self._account(script - hidden, own + hidden, kind)
        if kind in ("probe", "noise") or self._steps >= self._stale:
            self._estimate()

    def passed(self, steps: int, seconds: float, own: float) -> None:
        """So many steps without any instrument took `seconds` together, `own` of them in our code."""
        script = max(0.0, seconds - own)
        self._steps += steps
        self.probes.since += steps
        self.noise.since += steps
        self._before = "none"
        self._note(self._own, "none", own / steps)
        self._note(self._bare, "none", script / steps)
        self._account(script, own, "none")
        if self._steps >= self._stale:
            self._estimate()

    def nothing_for(self) -> int:
        """For how many steps to come no dear one will surely be afforded."""
        if self.share >= 1 or self._steps < FIRST or self._before in ("probe", "noise"):
            return 0
        times = self._steps, self.bare, self.plain
        ahead = [self.probes.ahead(*times, self.share), self.noise.ahead(*times, NOISE * self.share)]
        return max(0, int(min(ahead)))

    def _account(self, script: float, own: float, kind: str) -> None:
        self.own += own
        self.bare += script
        granted = 0.0
        if kind == "noise":
            granted = self.noise.taken(own)
        elif kind == "probe":
            granted = self.probes.taken(own)
        self.begun += granted
        self.probes.add(self.share * script - own + granted)
        self.noise.add(NOISE * self.share * script - (own - granted if kind == "noise" else 0.0))

    def _note(self, notes: dict[str, deque[float]], kind: str, seconds: float) -> None:
        notes.setdefault(kind, deque(maxlen=9 if notes is self._own and kind == "probe" else 33))
        notes[kind].append(seconds)

    def _estimate(self) -> None:
        self._stale = self._steps + max(EARLY, min(self._steps // 8, STALE))
        own = {kind: statistics.median(seconds) for kind, seconds in self._own.items()}
        bare = {kind: statistics.median(seconds) for kind, seconds in self._bare.items()}
        quiet = len(self._bare.get("none", ())) >= WARMED
        ordinary = [kind for kind in ("none", "cheap", "call") if kind in bare]
        for kind, purse in (("probe", self.probes), ("noise", self.noise)):
            purse.cost = own.get(kind, purse.cost)
        if not ordinary:
            return
        self.plain = bare["none"] if quiet else statistics.median(s for k in ordinary for s in self._bare[k])
        if quiet:  # the least that was seen, as below
            self._hooks = max(0.0, min(self._own["none"]) - sum(self._kept.values()))
        self._hidden = {}
        for kind, seconds in bare.items():
            dear = kind.removeprefix("after ")
            if quiet or kind != dear:  # never more than our own part: the rest is the machine's
                self._hidden[kind] = min(max(0.0, seconds - self.plain), own.get(dear, 0.0))
        for kind, purse in (("probe", self.probes), ("noise", self.noise)):
            purse.cost += self._hidden.get(kind, 0.0) + self._hidden.get(f"after {kind}", 0.0)
        if self.share < 1 and sum(len(self._bare[kind]) for kind in ordinary) >= WARMED:
            self._set_periods(ordinary)

    def _set_periods(self, ordinary: Sequence[str]) -> None:
        # means, because on a busy machine some take very long; what hooks take is the least that was seen:
        # instruments that seem free run at every step, and then that is never seen again
        means = {
            kind: statistics.fmean(seconds) + self._hidden.get(kind, 0.0)
            for kind, seconds in self._own.items()
        }
        idle = min(self._own["none"]) if len(self._own.get("none", ())) >= WARMED else 0.0
        script = statistics.fmean(seconds for kind in ordinary for seconds in self._bare[kind])
        left = max(self.share * script - idle, 0.0)
        for kind in means.keys() & SHARES.keys():
            period = (means[kind] - idle) / max(SHARES[kind] * left, 1e-9)
            self.periods[kind] = max(1, min(SELDOM[kind], round(period)))
