"""The learning rate is too high: each step changes the weights by far more than the loss can bear.

What it means: steps overshoot. The loss explodes, sits at what a constant guess gives after an early
explosion, or bounces far above where it could be; ReLU units may die on the way. A lower rate is the
cure.
How it is decided: large steps alone are no evidence (plain SGD at a good rate takes some). Two things must
come together: the run fails (its loss ends above its start, never falls below a constant guess, is no
longer a number), its loss exploded early, it had fallen and rose again by 15 % of what it had won, or a
half of its steps or more, taken at half of the largest rate or above, had left it where it began when a
lower rate let it learn, or more than three quarters of its units died of which less than half were dead at
first; and the largest update in that time, running median of three steps, was more than 10 % of the norm of
the weights. (In a run that fails without another sign, steps above 2 % that together are shorter than the
weights do not count: the first ones of adaptive optimizers are long.) In a run that fails, 3 % suffices where
it is the usual step of the last three quarters, and replaces the weights ten times over. Where the loss
exploded before it failed, 2 % suffices; where the run fails and successive
gradients point against each other, 1 % does. In a run that fails or has lost less than half of its loss, 10
% in the typical matrix count as well (of those that do not start near zero). That a run which learns has
lost less than half is weak evidence, since nobody knows how low its loss can get: there the typical matrix
must also have been replaced, its norm changed by a factor of 1.41 within ten of those steps (what was added
across it is then as long as what was there). The rate that would make the same update 1 % of the weights is
given as the limit beside the rate that was used; where the loss exploded, of the weights as they were
before it did. A single step longer than the typical matrix itself leaves nothing of what the run started
from: that is harm, whatever is learned afterwards (not of a model of one matrix, which with the usual losses
ends in the same place from everywhere).
Not applicable: fewer than 5 readings of the training loss (3, where it ceased to be a number) or none of the
update ratio; a run whose gradients are carried over from step to step grows its steps by itself and is judged
there; so is one that was learning until its BatchNorm was left in eval mode, where nothing holds its
activations.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import Course, course
from vario.rules._evidence import confidence, exactly, finite, level, trend
from vario.rules._parameters import of_usual_weights, optimizer_name, parameters, running_max

ID = "learning-rate-too-high"
SETTLED = 50  # steps after which RMSprop's are 1.6 times as long as later, with its usual alpha of 0.99
LASTING = 10  # steps of a tenth replace the weights
CARD = {
    "papers": ("P345", "P248"),
    "reads": ("loss/train", "update/ratio", "gradient/cosine", "hyper/lr", "weight/norm"),
    "checked": "closed form: gradient descent on a parabola past twice the inverse curvature",
    "changed": "",
    "alone": "worse",
    "harm": "update ratio of a typical matrix in its longest step",
    "summary": "With a learning rate of {learning rate} a step changed the weights by "
    "{largest update ratio, median of three} "
    "of their norm, and the loss does not fall as it should.",
}


def check(
    record: Record,
    *,
    ratio_limit: float = 0.1,  # usual ratios are 0.0001 to 0.01; ten steps of 0.1 replace the weights
    exploded_limit: float = 0.02,  # with an explosion as a second witness, a smaller excess convinces
    opposed_limit: float = 0.01,
    lasting_limit: float = 0.03,  # not in long first steps, but all along
    peak_limit: float = 3.0,  # the loss of single batches rarely triples without overshooting
    matrix_limit: float = 0.1,  # of single matrices: large embeddings hide them in the norm of the whole
    replaced: float = 2**0.5,  # |w + d|^2 = |w|^2 + |d|^2 across w: the change d is as long as w
    slow: float = 0.5,  # share of the starting loss that a run which is not slow has lost
    forgotten: float = 0.15,  # of all that was won; noise around a floor moves the level by a few per cent
    usual: float = 0.01,
    whole: float = 1.0,  # a step as long as the weights
) -> Finding | None:
    """A finding where the run fails or exploded, and its updates were too large for its weights."""
    run = course(record, count=3)
    if run.state != "non-finite":
        record.need("loss/train", 5)
    if _learned_until_eval_mode(record, run):
        raise NotApplicable("the run was learning until its BatchNorm was left in eval mode")
    steps, ratio = _before_failure(record, run)
    at, largest = running_max(steps, ratio)
    lost, forgot = _lost_at_the_peak(record, run) or _killed(record), _forgot(run, forgotten)
    exploded = run.peak > peak_limit * run.start.value > 0 or run.state == "worse" or _blew_up(record, run)
    opposed, replaces = _opposed(record), _replace(record, steps, ratio, exploded_limit)
    lasting = _lasting(record, ratio, lasting_limit) if run.bad_step is None else None
    # Each witness beside the size of the steps has its own limit for that size; the lowest one counts.
    limits = [
        (run.failing and replaces or exploded or lost is not None, ratio_limit),
        (run.failing and exploded, exploded_limit),
        (run.failing and opposed is not None, opposed_limit),
        (run.failing and lasting is not None, lasting_limit),
        (forgot is not None, exploded_limit),
    ]
    limit = min((limit for holds, limit in limits if holds), default=np.inf)
    poor = run.failing or run.fall < slow
    if largest <= limit and not poor:
        return None  # before every matrix is read
    matrix, growth, longest = _typical_matrix(record, run)
    reckless = poor and matrix > matrix_limit and (run.failing or not growth < replaced)
    if largest <= limit and not reckless:
        return None
    severity: Severity = "error" if run.failing else "warning"
    evidence = [
        exactly("largest update ratio, median of three", largest, min(limit, ratio_limit)),
        run.end.evidence("loss at the end", run.start.value),
    ]
    sound = _while_sound(run, steps, ratio, peak_limit)
    if sound > largest:  # steps of the same length look small beside weights that have exploded
        evidence.append(exactly("update ratio before the loss exploded", sound, usual))
    evidence += _rate(record, at, usual / max(largest, sound, usual))
    if np.isfinite(matrix):
        evidence.append(exactly("largest update ratio of a typical matrix", matrix, matrix_limit))
    if longest > whole:
        evidence.append(exactly(str(CARD["harm"]), longest, whole))
    evidence += [e for e in (opposed, forgot, lost, lasting) if e is not None]
    past = max(largest / limit, matrix / matrix_limit if reckless else 0.0)
    sure = confidence(past, 1.0, least=0.7, most=0.97)
    return Finding(ID, severity, sure, (), (at, record.step_count - 1), tuple(evidence))


def _rate(record: Record, step: int, part: float) -> list[Evidence]:
    """The rate at that step, beside the ``part`` of it that would do."""
    steps, rates = finite(*record.series("hyper/lr", "group 0"))
    if not len(rates):
        return []
    rate = float(rates[max(int(np.searchsorted(steps, step, side="right")) - 1, 0)])
    return [exactly("learning rate", rate, rate * part)]


def _learned_until_eval_mode(record: Record, run: Course) -> bool:
    for kind in record.wheres("mode/train_share"):
        steps, share = finite(*record.series("mode/train_share", kind))
        if "BatchNorm" not in kind or not len(share) or share[0] <= 0 or share[-1] > 0:
            continue
        before = run.values[run.steps <= steps[share > 0][-1]]
        if len(before) and level(before[-5:]).high < run.start.value:
            return True
    return False


def _before_failure(record: Record, run: Course) -> tuple[np.ndarray, np.ndarray]:
    steps, ratio = finite(*record.need("update/ratio", 1))
    if run.bad_step is not None:
        before = steps <= run.bad_step
        steps, ratio = steps[before], ratio[before]
    if not len(ratio):
        raise NotApplicable("no finite reading of update/ratio before the loss broke")
    return steps, ratio * of_usual_weights(record, steps)


def _replace(record: Record, steps: np.ndarray, ratio: np.ndarray, limit: float) -> bool:
    """Whether the steps above the limit are together as long as the weights; others have destroyed nothing.

    The first steps of adaptive optimizers are long, whatever a run fails for.
    """
    return bool(np.where(ratio > limit, ratio, 0.0) @ np.diff(steps, append=record.step_count) > 1)


def _lasting(record: Record, ratio: np.ndarray, limit: float, *, over: float = 10.0) -> Evidence | None:
    """The usual step of the last three quarters, where such steps replace the weights ten times ``over``."""
    usual = float(np.median(ratio[len(ratio) // 4 :]))
    replaced = usual > limit and usual * record.step_count > over
    return exactly("usual update ratio", usual, limit) if replaced else None


def _while_sound(run: Course, steps: np.ndarray, ratio: np.ndarray, peak_limit: float) -> float:
    """The median update ratio before the loss exploded; 0 where it did not, or none was read."""
    loud = run.values > peak_limit * run.start.value
    if run.start.value <= 0 or not loud.any():
        return 0.0
    before = ratio[steps < run.steps[loud.argmax()]]
    return float(np.median(before)) if len(before) else 0.0


def _typical_matrix(record: Record, run: Course, *, small: float = 0.1) -> tuple[float, float, float]:
    """Medians over the matrices: the largest update ratio (a median of three), the factor that the norm
    changed by around it, and the longest single step over the matrix where there are several; each is nan
    where none was read.

    The first steps of RMSprop do not count: its mean of squares starts at zero and is not corrected for
    that, so they are up to ten times as long. Nor do matrices that start at zero, or below ``small`` of the
    usual 1 / sqrt(fan-in): they must grow by many times their size to do anything.
    """
    until = np.inf if run.bad_step is None else run.bad_step
    first = SETTLED if optimizer_name(record) == "rmsprop" else 0
    found, factors, singles = [], [], []
    for parameter in parameters(record):
        if not parameter.is_matrix:
            continue
        weight_steps, weights = finite(*record.series("weight/norm", parameter.name))
        if len(weights) and weights[0] < small * np.sqrt(parameter.shape[0]):  # sqrt(size / fan-in)
            continue
        steps, ratio = finite(*record.series("update/ratio", parameter.name))
        inside = steps <= until
        inside &= steps >= first
        if inside.any():
            at, largest = running_max(steps[inside], ratio[inside])
            found.append(largest)
            singles.append(float(ratio[inside].max()))
            if len(weights) and weights.min() > 0:
                around = np.interp([at - LASTING, at, at + LASTING], weight_steps, np.log(weights))
                factors.append(float(np.exp(np.abs(np.diff(around)).max())))
    typical, factor, single = (
        float(np.median(values)) if values else np.nan for values in (found, factors, singles)
    )
    return typical, factor, single if len(singles) > 1 else np.nan


def _blew_up(record: Record, run: Course) -> bool:
    """The loss rose tenfold before it ceased to be a number."""
    if run.bad_step is None or not len(run.values):
        return False
    before = run.values[run.steps <= run.bad_step]
    return bool(len(before) and before.max() > 10 * run.start.value > 0)


def _forgot(run: Course, part: float) -> Evidence | None:
    """Training loss that fell and rose again, and stayed up: what the run had won, its steps destroyed."""
    won, lost = run.start.value - run.lowest, run.end.low - run.lowest
    if run.state in ("non-finite", "worse") or won <= 0 or lost <= max(part * won, 2 * run.noise):
        return None
    if run.lowest < 0:  # as of a policy: nothing says that lower is better
        return None
    last = run.steps >= run.steps[-1] / 2
    if trend(run.steps[last], run.values[last]).high < 0:
        return None  # it is on its way down again
    return exactly("share of the progress that was lost again", lost / won, part)


def _lost_at_the_peak(record: Record, run: Course, *, part: float = 0.5) -> Evidence | None:
    """The share of the steps that a schedule spent near its largest rate, where these brought nothing.

    What learns only once the rate is lowered says itself that the rate was too high.
    """
    steps, rates = finite(*record.series("hyper/lr", "group 0"))
    if run.state != "learning" or not len(rates) or rates[-1] >= rates.max() / 2:
        return None
    last = int(steps[rates >= rates.max() / 2][-1])
    inside = run.values[run.steps <= last]
    spent = (last + 1) / record.step_count
    late = inside[-max(len(inside) // 4, 5) :]
    if spent < part or len(inside) < 10:
        return None
    if level(late).low < np.fmin(0.95 * run.start.value, 0.97 * run.chance) or run.end.high > level(late).low:
        return None
    return exactly("share of the steps that brought nothing", spent, part)


def _killed(record: Record, *, alive: float = 0.5, dead: float = 0.75) -> Evidence | None:
    """The share of units that are dead at the end, where they are most and were not at the first reading."""
    ends = np.zeros((2, 2))  # first and last reading: dead, all
    for where in record.wheres("activation/dead_channels"):
        gone = finite(*record.series("activation/dead_channels", where))[1]
        units = record.last("activation/channels", where)
        if len(gone) and units > 0:
            ends += [[gone[0], units], [float(np.median(gone[-5:])), units]]
    if not ends[1, 1]:
        return None
    before, after = ends[:, 0] / ends[:, 1]
    if before >= alive or after <= dead:
        return None
    return exactly("share of units that are dead at the end", after, dead)


def _opposed(record: Record) -> Evidence | None:
    """Successive gradients that point against each other: the run jumps across a valley."""
    cosine = finite(*record.series("gradient/cosine"))[1]
    if len(cosine) < 6:
        return None
    found = level(cosine)
    return found.evidence("cosine of successive gradients", -0.2) if found.high < -0.2 else None
