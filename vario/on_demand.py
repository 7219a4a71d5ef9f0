"""A session that besides measures what was asked for, at chosen steps or for a share of the run's time.

What costs many steps (curvature, spectra) is not part of the ordinary budget: it runs only where somebody
asked for it. `vario measure` asks through the environment, so the script is started as `vario run` does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vario.capture.moment import before_step, raw_needs
from vario.nouns import VarioError
from vario.session import Session, Writer

if TYPE_CHECKING:
    from vario.capture.streams import Stream
    from vario.instruments._protocol import Instrument

__all__ = ["ASK", "KINDS", "SUBSPACE", "Asked", "OnDemandSession", "make_session"]

ASK = "VARIO_MEASURE"  # in the environment: JSON of Asked
SUBSPACE = "VARIO_SUBSPACE"  # in the environment: directions that training is held to, and a seed: "200,0"
FIRST_STEPS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000)
KEEP = "keep_weights"  # of the step before a measured one: then the step itself is known

KINDS: Mapping[str, Mapping[str, str]] = {  # what is asked for: file of the instrument, its class
    "curvature": {
        "curvature_top": "CurvatureTop",
        "curvature_step": "CurvatureStep",
        "largest_rate": "LargestRate",
        "curvature_trace": "CurvatureTrace",
        "curvature_batch": "CurvatureBatch",
    },
    "density": {"curvature_density": "CurvatureDensity"},
    "kernel": {"tangent_kernel": "TangentKernel"},
    "conflict": {"example_conflict": "ExampleConflict"},
    "spectra": {
        "gradient_spectrum": "GradientSpectrum",
        "weight_spectrum": "WeightSpectrum",
        "representation_rank": "RepresentationRank",
    },
}


@dataclass(frozen=True)
class Asked:
    """``what``: names of KINDS; measured at ``steps``, or as often as costs ``share`` of the run's time."""

    what: tuple[str, ...]
    steps: tuple[int, ...] = ()
    share: float = 0.0

    def instruments(self) -> tuple[Instrument, ...]:
        """One of each instrument that was asked for."""
        unknown = [name for name in self.what if name not in KINDS]
        if unknown:
            raise VarioError(
                f"{unknown[0]!r} cannot be measured; {', '.join(KINDS)} and intrinsic-dimension can."
            )
        files = {file: kind for name in self.what for file, kind in KINDS[name].items()}
        return tuple(
            getattr(import_module(f"vario.instruments.{file}"), kind)() for file, kind in files.items()
        )

    def as_text(self) -> str:
        """For the environment of the script."""
        return json.dumps({"what": self.what, "steps": self.steps, "share": self.share})

    @classmethod
    def from_text(cls, text: str) -> Asked:
        found = json.loads(text)
        return cls(tuple(found["what"]), tuple(map(int, found["steps"])), float(found["share"]))


@dataclass(eq=False)
class _Spent:
    """On one stream, outside the ordinary budget."""

    began: float = field(default_factory=time.perf_counter)
    spent: float = 0.0
    cost: float = 0.0
    own_before: float = 0.0
    due: bool = False
    next_due: bool = False


class OnDemandSession(Session):
    """An ordinary session whose due steps run further instruments."""

    def __init__(self, open_writer: Callable[[], Writer], asked: Asked, **ordinary: Any) -> None:
        super().__init__(open_writer, **ordinary)
        self._asked = asked
        self._more = asked.instruments()
        self._needs = raw_needs({need for instrument in self._more for need in instrument.needs})
        self._spent: dict[str, _Spent] = {}

    def wants(self, stream: Stream) -> frozenset[str]:
        wanted = super().wants(stream)
        spent = self._spent.setdefault(stream.name, _Spent())
        spent.due = spent.next_due or (stream.step in self._asked.steps and not stream.step)
        spent.next_due = self._is_due(spent, stream.step + 1)
        if spent.due:
            plan = self._plans[stream.name]
            asked = {instrument.name for instrument in self._more}
            plan.running = tuple(i for i in plan.running if i.name not in asked) + self._more
            wanted |= self._needs | {"inputs", "losses"}
            spent.own_before = self.own_time()
        return wanted | {KEEP} if spent.next_due else wanted

    def idle_steps(self, stream: Stream) -> int:
        """Steps that may pass untold: none of those that come right before a due one."""
        spent = self._spent.get(stream.name)
        if spent is None or spent.due or spent.next_due:
            return 0
        idle = super().idle_steps(stream)
        later = [step - stream.step - 2 for step in self._asked.steps if step > stream.step]
        return max(0, min([idle, *later])) if not self._asked.share else min(idle, 16)

    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        super().at_gradient(stream, raw)
        moment = self._plans[stream.name].moment
        if moment is not None and self._spent[stream.name].due:
            moment.prepare(before_step({need for instrument in self._more for need in instrument.needs}))

    def stepped(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        spent, plan = self._spent[stream.name], self._plans[stream.name]
        if spent.due:  # the ordinary budget does not pay for it
            taken = self.own_time() - spent.own_before
            plan.began, plan.own_before = plan.began + taken, plan.own_before + taken
        super().stepped(stream, raw)
        if spent.due:
            spent.cost = self.own_time() - spent.own_before
            spent.spent += spent.cost

    def _is_due(self, spent: _Spent, step: int) -> bool:
        if not self._asked.share:
            return step in self._asked.steps
        if step < FIRST_STEPS[2] or (spent.due and not spent.cost):  # the first will tell the cost
            return False
        elapsed = time.perf_counter() - spent.began - spent.spent
        return not spent.cost or spent.spent + spent.cost <= self._asked.share * elapsed


def make_session(
    open_writer: Callable[[], Writer],
    *,
    overhead: float,
    instruments: Sequence[Instrument] | None = None,
    every_step: bool = False,
    keep_examples: int = 0,
) -> Session:
    """An ordinary session, or one that also measures what the environment asks for.

    ``keep_examples``: of how many of the worst examples a sketch goes into the record.
    """
    _hold_in_subspace()
    keeper = None
    if keep_examples > 0:
        from vario.instruments import ALL
        from vario.instruments.kept_examples import KeptExamples

        keeper = KeptExamples(keep_examples)
        instruments = (*(ALL if instruments is None else instruments), keeper)
    text = os.environ.get(ASK)
    ordinary: dict[str, Any] = {
        "overhead": overhead,
        "instruments": instruments,
        "every_step": every_step,
    }
    if text is None:
        session = Session(open_writer, **ordinary)
    else:
        session = OnDemandSession(open_writer, Asked.from_text(text), **ordinary)
    if keeper is not None:
        keeper.note, session.ending = session.note, keeper.finish
    return session


def _hold_in_subspace() -> None:
    """Where the environment asks for it, every optimizer of this process moves in few random directions."""
    text = os.environ.get(SUBSPACE)
    if text is None or _held:
        return
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    from vario.scores.objective_dimension import Subspace

    dimension, _, seed = text.partition(",")
    space = Subspace(int(dimension), seed=int(seed or 0))
    _held.append(space)
    register_optimizer_step_pre_hook(space.before_step)
    register_optimizer_step_post_hook(space.after_step)


_held: list[Any] = []  # one in a process, however often it is watched anew (after a fork)
