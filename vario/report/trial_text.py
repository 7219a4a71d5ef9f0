"""A trial for the terminal: the verdicts in words, and where a trial stands while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vario.nouns import Verdict
from vario.remedies.figures import number
from vario.report.words import duration
from vario.trials.result import Arms, Trial
from vario.trials.runner import Outcome
from vario.trials.verdict import MOST_SEEDS

__all__ = [
    "cost_words",
    "difference_words",
    "outcome_line",
    "removed_words",
    "standing",
    "trial_text",
    "verdict_words",
]

BAR = 21  # characters of an interval's picture, zero in the middle


def trial_text(trial: Trial) -> str:
    """The whole trial: verdicts first, then how they were reached."""
    return "\n".join(_lines(trial))


def verdict_words(verdict: Verdict, margin: float | None = None) -> str:
    """The verdict as a sentence."""
    if verdict.verdict == "undecided":
        if not verdict.pairs:
            return "undecided: no pair gave a value"
        if verdict.more_seeds >= MOST_SEEDS:
            return f"undecided: {MOST_SEEDS:,} more seeds or more"
        return f"undecided: about {verdict.more_seeds:,} more seeds"
    if verdict.verdict == "equivalent":
        if verdict.difference == (0.0, 0.0, 0.0):
            return "exactly no difference"
        return f"no difference larger than {number(margin)}" if margin else "no difference"
    return verdict.verdict


def standing(verdict: Verdict, reach: float) -> str:
    """The interval as a picture: `|` is no difference, `o` the mean, dashes the interval."""
    value, low, high = verdict.difference
    cells = [" "] * BAR
    if not math.isfinite(value) or not reach > 0:
        return "".join(cells[: BAR // 2]) + "|" + "".join(cells[BAR // 2 + 1 :])

    def cell(at: float) -> int:
        share = max(-1.0, min(1.0, at / reach)) if math.isfinite(at) else math.copysign(1.0, at)
        return round((share + 1) / 2 * (BAR - 1))

    for place in range(cell(low), cell(high) + 1):
        cells[place] = "-"
    cells[BAR // 2] = "|"
    cells[cell(value)] = "o"
    return "".join(cells)


def outcome_line(outcome: Outcome) -> str:
    """One line for a run that has ended."""
    ending = outcome.reason or ("ended at the limit of minutes" if outcome.stopped else "done")
    return f"seed {outcome.job.seed}  {outcome.job.arm}: {ending} ({duration(outcome.seconds)})"


def difference_words(verdict: Verdict) -> str:
    """The difference with its interval."""
    value, low, high = verdict.difference
    if not math.isfinite(value):
        return "no value"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:+.4g} (interval still open)"
    return f"{value:+.4g} ({low:+.4g} to {high:+.4g})"


def cost_words(verdict: Verdict) -> str:
    """How many times as long a step takes, with its interval."""
    low, high = verdict.cost_interval
    return f"{verdict.cost:.2f}" + (f" ({low:.2f} to {high:.2f})" if math.isfinite(high) else " (one pair)")


def removed_words(arm: Arms) -> str:
    """The share of the variance that pairing removed, with its interval; "" where it was not looked at."""
    low, high = (arm.statistics.get(f"variance_removed_{end}", math.nan) for end in ("low", "high"))
    if not math.isfinite(arm.variance_removed):
        return ""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "not known from so few pairs"
    return f"{100 * arm.variance_removed:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def _lines(trial: Trial) -> Iterator[str]:
    direction = "higher" if trial.higher_is_better else "lower"
    yield f"vario: trial {trial.id}: {' '.join(trial.command)}"
    yield f"  metric: {trial.metric}, {direction} is better; {trial.metric_source}"
    looks = "looked at after every pair" if trial.peeking else "judged once, after the last pair"
    yield f"  {trial.pairs} of at most {trial.seeds} pairs, at equal {trial.budget}; {looks}"
    yield from _tuning(trial)
    for verdict in trial.verdicts:
        yield from _one(trial, verdict)
    yield from _control(trial)
    yield from _budgets(trial)
    yield from _times(trial)
    yield from _findings(trial)
    if trial.optimism > 0 and len(trial.verdicts) > 1:
        yield (
            f"  the best of these {len(trial.verdicts) + 1} arms looks better than it is by about "
            f"{number(trial.optimism)}, for having been chosen by this metric"
        )
    for failure in trial.failures[:6]:
        yield f"  failed: seed {failure.seed}, {failure.arm}: {failure.reason}  [{failure.path}]"
    if len(trial.failures) > 6:
        yield f"  and {len(trial.failures) - 6} more failed"
    own = {f"{v.treatment}: {note}" for v in trial.verdicts for note in trial.notes_on(v.treatment)}
    for note in trial.notes:
        if note not in own:  # those stand beside their verdicts
            yield f"  note: {note}"


def _one(trial: Trial, verdict: Verdict) -> Iterator[str]:
    arm = trial.arm(verdict.treatment)
    came = f"  ({arm.note})" if arm.note else ""
    yield f"{verdict.treatment}{came}"
    yield f"    {verdict_words(verdict, trial.margin)}"
    if arm.reason:
        yield f"    {arm.reason}"
    for note in trial.notes_on(arm.name):
        yield f"    note: {note}"
    if not verdict.pairs:
        return
    yield (
        f"    difference {difference_words(verdict)}, p {verdict.p:.2g}, probability that it helps "
        f"{verdict.probability:.2f}, {verdict.pairs} pairs"
    )
    if arm.statistics and verdict.pairs > 1:
        s = arm.statistics
        yield (
            f"    looked at once: t {s['t_low']:+.3g} to {s['t_high']:+.3g} (p {s['p_t']:.2g}), bootstrap "
            f"{s['bootstrap_low']:+.3g} to {s['bootstrap_high']:+.3g}, permutation p "
            f"{s['p_permutation']:.2g}, sign p {s['p_sign']:.2g}"
        )
    if math.isfinite(verdict.cost):
        yield f"    a step takes {cost_words(verdict)} times as long as the baseline's"
    if removed := removed_words(arm):
        yield f"    variance that pairing removed: {removed}"


def _control(trial: Trial) -> Iterator[str]:
    for verdict in trial.against_control:
        control = next((arm.name for arm in trial.arms if arm.role == "control"), "the control")
        yield (
            f"  {verdict.treatment} against the control {control}: {verdict_words(verdict, trial.margin)}, "
            f"{difference_words(verdict)}"
        )


def _budgets(trial: Trial) -> Iterator[str]:
    if not trial.budgets:
        return
    first = next(iter(trial.budgets.values()))
    wide = min(max(len(verdict.treatment) for verdict in first), 24)
    yield f"  {'at equal':{wide + 2}}" + "".join(f"{name:>30}" for name in trial.budgets)
    for place, verdict in enumerate(first):
        rows = [rows[place] for rows in trial.budgets.values()]
        yield f"    {_short(verdict.treatment, wide):{wide}}" + "".join(f"{_brief(row):>30}" for row in rows)


def _times(trial: Trial) -> Iterator[str]:
    rows = [arm for arm in trial.arms if math.isfinite(arm.step_seconds)]
    if rows:
        yield "  apart from the budgets:"
    for arm in rows:
        yield (
            f"    {_short(arm.name, 30):30} outside steps {_seconds(arm.start_seconds)}, warm-up and "
            f"compiling {_seconds(arm.warmup_seconds)}, a step {_seconds(arm.step_seconds)}{_memory(arm)}"
        )


def _findings(trial: Trial) -> Iterator[str]:
    before = trial.arms[0]
    if not before.examined:
        return
    for arm in trial.arms[1:]:
        if not arm.examined:
            continue
        gone = [_often(name, before) for name in before.findings if name not in arm.findings]
        new = [_often(name, arm) for name in arm.findings if name not in before.findings]
        yield (
            f"  findings with {arm.name}: gone {', '.join(gone) or 'none'}; new {', '.join(new) or 'none'}; "
            f"kept {', '.join(name for name in arm.findings if name in before.findings) or 'none'}"
        )


def _tuning(trial: Trial) -> Iterator[str]:
    if trial.tuning:
        tried, seeds = len(trial.tuning["settings"]), trial.tuning["seeds"]
        yield f"  tuned alike: {tried} settings on {seeds} seeds that are not judged, for every arm:"
        for name, kept in trial.tuning["kept"].items():
            yield f"    {name}: {kept}"


def _often(name: str, arm: Arms) -> str:
    count = arm.findings[name]
    return name if count == arm.examined else f"{name} ({count} of {arm.examined} runs)"


def _brief(verdict: Verdict) -> str:
    value, low, high = verdict.difference
    if not math.isfinite(value):
        return "not known"
    shown = f" {value:+.3g}" + (f" ±{(high - low) / 2:.2g}" if math.isfinite(high - low) else "")
    return verdict.verdict + shown


def _seconds(value: float) -> str:
    return duration(value) if math.isfinite(value) else "not known"


def _memory(arm: Arms) -> str:
    return f", memory {arm.memory_bytes / 2**20:,.0f} MB" if math.isfinite(arm.memory_bytes) else ""


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "~"


def reach_of(verdicts: Sequence[Verdict]) -> float:
    """How far the pictures of the intervals go to each side."""
    ends = [abs(v) for verdict in verdicts for v in verdict.difference if math.isfinite(v)]
    return max(ends, default=0.0)
