"""The trial itself: `vario.trial("train.py", with_=["stable-spam"])`, and what `vario trial` does."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vario.nouns import NotApplicable, Reading, VarioError, Verdict
from vario.record.reader import open_run
from vario.record.runs import create_run
from vario.record.runs import home as default_home
from vario.trials.asked import SEEDS, Asked
from vario.trials.comparison import Table, Unmeasured, settle
from vario.trials.conduct import run_jobs
from vario.trials.files import folder, kept_files
from vario.trials.ledger import Ledger
from vario.trials.length import filled, tried
from vario.trials.local import LocalRunner
from vario.trials.measure import Course, Metric, choose, read
from vario.trials.pairs import BASELINE, TUNING_SEEDS, Job, Plan
from vario.trials.result import Trial
from vario.trials.runner import Outcome, Runner
from vario.trials.story import told
from vario.trials.tuning import Tuned, needs_the_scripts_own, settings, settled, variants

__all__ = ["Progress", "conduct", "trial"]


@dataclass(frozen=True)
class Progress:
    """Where a trial stands, for who watches it."""

    path: Path
    stage: str  # "tuning" or "pairs"
    verdicts: Sequence[Verdict]
    pairs: int
    seeds: int
    running: tuple[Job, ...]
    done: int
    reused: int
    failed: int
    metric: Metric | None
    peeking: bool = True
    last: Outcome | None = None
    reasons: tuple[str, ...] = ()


def trial(
    script: str | Sequence[str],
    *,
    with_: Sequence[str] | str = (),
    set_: Sequence[str] | str = (),
    seeds: int = SEEDS,
    metric: str = "",
    higher_is_better: bool | None = None,
    budget: str = "steps",
    minutes: float = math.inf,
    tune: Sequence[str] | str = (),
    margin: float | None = None,
    control: str = "",
    all_seeds: bool = False,
    jobs: int | None = None,
    runner: Runner | None = None,
    home: Path | str | None = None,
    fresh: bool = False,
    tell: Callable[[Progress], None] | None = None,
) -> Trial:
    """Run `script` (a sequence: with its arguments) as it is and under each treatment; the verdicts.

    The words mean what they mean to `vario trial`. The result is a sequence of Verdicts, one per treatment.
    """
    command = [script] if isinstance(script, str) else list(script)
    asked = Asked(
        command, _several(with_), _several(set_), seeds=seeds, metric=metric,
        higher_is_better=higher_is_better, budget=budget, minutes=minutes, tune=_several(tune),
        margin=margin, control=control, all_seeds=all_seeds, fresh=fresh,
    )  # fmt: skip
    place = None if home is None else Path(home)
    return conduct(asked, runner or LocalRunner(jobs, limits=asked.limits), home=place, tell=tell)


def conduct(
    asked: Asked,
    runner: Runner,
    *,
    home: Path | None = None,
    tell: Callable[[Progress], None] | None = None,
    measure: Callable[[Outcome, Metric], Course] | None = None,
    metric: Metric | None = None,
) -> Trial:
    """Make the trial that was asked for. `measure` and `metric` stand in for the record of a run in tests."""
    plan = asked.plan(home)
    place = (home or default_home()).resolve() / "trials"
    path = create_run(place, command=("vario", "trial", *plan.command), meta={"trial": list(plan.order)})
    ledger = Ledger(
        place / "ledger.jsonl", fresh=asked.fresh, retry_failed=asked.retry, minutes=asked.minutes
    )
    making = _Making(asked, plan, runner, path, ledger, tell or (lambda progress: None), measure, metric)
    back: list[str] = []
    try:
        with kept_files(folder(path / "runs")) as back:
            return making.make()
    finally:
        if back:
            os.write(
                2, f"vario: put back as before the trial: {', '.join(map(os.path.relpath, back))}\n".encode()
            )


class _Making:
    """A trial under way."""

    def __init__(
        self,
        asked: Asked,
        plan: Plan,
        runner: Runner,
        path: Path,
        ledger: Ledger,
        tell: Callable[[Progress], None],
        measure: Callable[[Outcome, Metric], Course] | None,
        metric: Metric | None,
    ) -> None:
        self.asked, self.plan, self.runner, self.path, self.ledger = asked, plan, runner, path, ledger
        self._tell, self._measure, self.metric = tell, measure, metric
        self._reads_records = measure is None
        self.table = Table(plan, asked.budget, asked.margin)
        self.tuned = Tuned()
        self._done = self._reused = 0
        self._verdicts: list[Verdict] = []
        self._last: Outcome | None = None
        self._why_alone = ""
        self._began = time.time()

    def make(self) -> Trial:
        self._count()
        if self.asked.tune:
            self._tune()
        seeds = range(self.plan.seeds)
        try:
            run_jobs(
                self._jobs(seeds), self.runner, home=self.path / "runs", ledger=self.ledger,
                ended=self._ended, enough=self.table.is_decided, tick=self._tick, mixed=self._mixed,
            )  # fmt: skip
        except KeyboardInterrupt:
            self._result(finished=False).save()
            raise
        if self._reads_records:
            self._choose()  # also where no row is complete: a script that does not train is told so
        result = self._result(finished=True)
        result.save()
        self._record(result)
        return result

    # ---- pairs

    def _jobs(self, seeds: Sequence[int]) -> Iterator[Job]:
        for seed in seeds:
            arms = self.plan.arms
            if seed == seeds[0]:  # a treatment that cannot be put in says so at its first step
                arms = (*arms[1:], arms[0])
            for arm in arms:
                if arm.name not in self.table.broken:
                    yield self.plan.job(arm, seed)

    def _ended(self, outcome: Outcome) -> None:
        arm, seed = outcome.job.arm, outcome.job.seed
        self._done += 1
        self._reused += outcome.path is not None and self.path not in outcome.path.parents
        self._last = outcome
        if self._mixed(outcome):  # though it ran alone: beside another trial
            raise VarioError(f"{self._why_alone}: is another trial running in this folder?")
        self.table.outcomes[arm, seed] = outcome
        wrong = self._wrong(outcome)
        if wrong:
            self.table.broken[arm] = wrong
            if arm == BASELINE:
                raise VarioError(f"the baseline's own settings cannot be put in: {wrong}")
        if settle(self.table, self._course, range(self.plan.seeds), ready=self._choose):
            self._verdicts = self.table.verdicts()
        self._tick(())

    def _tick(self, running: tuple[Job, ...]) -> None:
        self._say("pairs", running)

    def _say(self, stage: str, running: tuple[Job, ...]) -> None:
        table = self.table
        self._tell(
            Progress(
                self.path, stage, self._verdicts, len(table.rows), self.plan.seeds, running, self._done,
                self._reused, len(table.reasons) + len(table.broken), self.metric, self.plan.peeking,
                self._last,
                tuple(f"{arm}: {reason}" for arm, reason in table.broken.items()),
            )
        )  # fmt: skip
        self._last = None

    def _wrong(self, outcome: Outcome) -> str:
        """Why the run is not one of its treatment, "" where it is."""
        arm = next((arm for arm in self.plan.arms if arm.name == outcome.job.arm), None)
        if not self._reads_records or arm is None or outcome.path is None:
            return ""
        from vario.remedies.slots_told import went_wrong

        with open_run(outcome.path) as run:
            if outcome.reason and not run.events("treatment_failed"):
                return ""  # it ended before it could reach its slot
            return went_wrong(run, arm.change)

    def _mixed(self, outcome: Outcome) -> bool:
        """Whether the run was ended because another one wrote over what it would have read."""
        if not self._reads_records or outcome.path is None or not outcome.reason:
            return False
        with open_run(outcome.path) as run:
            failed = run.events("treatment_failed")
            reasons = [str(event.data.get("reason")) for event in failed if event.where == "files"]
        if reasons and not self._why_alone:
            told = f"vario: the runs read what they write ({reasons[0]}); they are made one by one\n"
            os.write(2, told.encode())
        self._why_alone = self._why_alone or "".join(reasons[:1])
        return bool(reasons)

    def _choose(self) -> None:
        """The metric, from the first run that gives one: the baseline's where that ended well."""
        table = self.table
        if self.metric is None:
            trouble: VarioError | None = None
            for outcome in self._in_order():
                try:
                    with open_run(outcome.path) as run:  # type: ignore[arg-type]
                        self.metric = choose(
                            run, self.asked.metric_name or None, patterns=self.plan.metrics,
                            higher_is_better=self.asked.higher_is_better,
                        )  # fmt: skip
                    break
                except VarioError as error:
                    trouble = trouble or error
            if self.metric is None and trouble is not None:
                raise trouble
        if self.metric is not None:
            table.higher_is_better = self.metric.higher_is_better

    def _in_order(self) -> list[Outcome]:
        order = {name: place for place, name in enumerate(self.plan.order)}
        fine = [o for o in self.table.outcomes.values() if not o.reason and o.path is not None]
        return sorted(fine, key=lambda outcome: (outcome.job.seed, order.get(outcome.job.arm, 0)))

    def _course(self, outcome: Outcome) -> Course:
        if self.metric is None:
            self._choose()
        if self.metric is None:
            raise Unmeasured("no run of its row ended well")
        try:
            if self._measure is not None:
                return self._measure(outcome, self.metric)
            assert outcome.path is not None
            return read(outcome.path, self.metric, seconds=outcome.seconds)
        except (NotApplicable, VarioError) as error:
            raise Unmeasured(str(error)) from error

    # ---- before the pairs

    def _count(self) -> None:
        """What methods count and the user left open, from the baseline's first run.

        They are tried before it, at any count, until they are in: one that cannot be is then known at once.
        """
        tries = [tried(arm) for arm in self.plan.arms if arm.change.uncounted]
        if self._reads_records and tries:
            self._run((self.plan.job(arm, 0) for arm in tries), self._tried)
            if self.table.is_decided():
                return
            ended: list[Outcome] = []
            self._run(iter([self.plan.job(self.plan.arms[0], 0)]), ended.append)
            self.plan = replace(self.plan, arms=filled(self.plan.arms, ended[0]))
            self.table.plan = self.plan

    def _tried(self, outcome: Outcome) -> None:
        if self._wrong(outcome):
            self._ended(outcome)

    def _tune(self) -> None:
        """Try every setting on every arm on the tuning seeds, and go on with what each arm did best with."""
        ended: dict[tuple[str, int], Outcome] = {}

        def note(outcome: Outcome) -> None:
            self._done += 1
            ended[outcome.job.arm, outcome.job.seed] = outcome
            self._last = outcome
            self._say("tuning", ())

        seeds = range(TUNING_SEEDS, TUNING_SEEDS + self.asked.tuning_seeds)
        own: Path | None = None
        if needs_the_scripts_own(self.asked.tune):
            self._run(iter([self.plan.job(self.plan.arms[0], TUNING_SEEDS)]), note)
            own = ended[BASELINE, TUNING_SEEDS].path
        made = settings(self.asked.tune, own)
        tried = {arm.name: variants(arm, made) for arm in self.plan.arms}
        flat = [variant for arm in tried.values() for variant in arm.values()]
        self._run((self.plan.job(variant, seed) for seed in seeds for variant in flat), note)
        self.table.outcomes = dict(ended)  # so that the metric is chosen from these
        self._choose()
        self.table.outcomes = {}
        scores = {
            name: {setting: self._score(ended, variant.name, seeds) for setting, variant in arm.items()}
            for name, arm in tried.items()
        }
        sign = -1.0 if self.table.higher_is_better else 1.0
        kept = {
            name: min(row, key=lambda setting: (math.isnan(row[setting]), sign * row[setting]))
            for name, row in scores.items()
        }
        self.tuned = Tuned(tuple(made), self.asked.tuning_seeds, kept, scores)
        self.plan = replace(self.plan, arms=settled(self.plan.arms, self.tuned))
        self.table.plan = self.plan

    def _run(self, jobs: Iterator[Job], note: Callable[[Outcome], None]) -> None:
        run_jobs(
            jobs, self.runner, home=self.path / "runs", ledger=self.ledger, ended=note,
            tick=lambda running: self._say("tuning", running), mixed=self._mixed,
        )  # fmt: skip

    def _score(self, ended: dict[tuple[str, int], Outcome], name: str, seeds: Sequence[int]) -> float:
        """The mean of the metric at the end of the runs; NaN where one of them gave none."""
        found = []
        for seed in seeds:
            outcome = ended[name, seed]
            try:
                course = self._course(outcome) if not outcome.reason else None
            except Unmeasured:
                course = None
            found.append(math.nan if course is None else course.at("steps", course.total["steps"]))
        return sum(found) / len(found)

    # ---- the end

    def _result(self, *, finished: bool) -> Trial:
        return told(
            self.table, self.asked, self.path, self.metric, tuned=self.tuned, finished=finished,
            seconds=time.time() - self._began, examine=self._reads_records,
        )  # fmt: skip

    def _record(self, result: Trial) -> None:
        """The pairs as series of an ordinary record, for the dashboard and for export."""
        from vario.record.store import RecordWriter

        try:
            writer = RecordWriter(self.path)
            for place, seed in enumerate(self.table.rows):
                rows = [
                    Reading("trial/metric", arm.values[str(seed)], arm.name)
                    for arm in result.arms
                    if math.isfinite(arm.values.get(str(seed), math.nan))
                ]
                writer.readings("trial", place, rows)
            writer.event(
                "trial", len(self.table.rows) - 1, "exit", data={"code": 0, "signal": 0, "error": ""}
            )
            writer.close()
        except (VarioError, OSError) as error:
            os.write(2, f"vario: {error}\n".encode())


def _several(given: Sequence[str] | str) -> Sequence[str]:
    return [given] if isinstance(given, str) else list(given)
