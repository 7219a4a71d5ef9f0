"""What causes what: each cause with the symptoms that it brings about.

An edge says "where both are found, the second is likely a consequence of the first"; the second is
then listed beneath the first. Edges chain: non-finite is a consequence of learning-rate-too-high by
way of diverging. The graph has no cycle (tested).
"""

from __future__ import annotations

from collections.abc import Callable

from vario.nouns import Finding

__all__ = ["FAILURES", "NO_ILLNESS", "SYMPTOMS", "consequences", "explains"]

# That a run came to nothing; what explains one of these matters more than what is merely so.
FAILURES = frozenset({"non-finite", "diverging", "loss-plateau"})

# Findings about the measurement: true of a run, but no reason for anything in it.
NO_ILLNESS = frozenset({"not-identified"})

# What a model that does not learn at all shows, whatever the reason.
_NOT_LEARNING = ("loss-plateau", "underfitting")
# What too large a step does, whatever made it large.
_TOO_FAR = ("diverging", "oscillating-loss", "exploding-gradients", "loss-spikes", "gradient-spikes")

# What a model shows that can learn no more than the mean of each batch.
_BELOW_SHAPES = frozenset(
    {"loss-plateau", "learning-rate-too-low", "learning-rate-too-high", "rank-collapse", "dead-units"}
)

SYMPTOMS: dict[str, tuple[str, ...]] = {
    "non-finite-input": (
        "non-finite",
        "learning-rate-too-high",  # what is lost to its data has not shown what its rate would have done
        "diverging",
        "loss-spikes",
        "gradient-spikes",
        *_NOT_LEARNING,
    ),
    "gradients-accumulate": (
        "learning-rate-too-high",
        "dead-units",
        "saturated-activations",
        "overconfidence",
        *_TOO_FAR,
        *_NOT_LEARNING,
    ),
    "target-scale": (
        "learning-rate-too-high",
        "learning-rate-too-low",
        "gradient-clipping-dominates",
        "dead-units",  # weights that must travel far saturate and kill on their way
        "saturated-activations",
        *_TOO_FAR,
        *_NOT_LEARNING,
    ),
    "unnormalized-inputs": (
        "learning-rate-too-high",
        "dead-units",
        "saturated-activations",
        "learning-rate-too-low",
        "poor-initialization",
        "rank-collapse",  # inputs far smaller than the biases leave one answer to all
        *_TOO_FAR,
        *_NOT_LEARNING,
    ),
    "learning-rate-too-high": (
        "dead-units",
        "saturated-activations",
        "gradient-clipping-dominates",
        "rank-collapse",
        "no-gradient",
        "vanishing-gradients",
        "class-neglected",
        "overconfidence",
        "softmax-collapse",
        *_TOO_FAR,
        *_NOT_LEARNING,
    ),
    "poor-initialization": (
        "learning-rate-too-high",
        "dead-units",
        "saturated-activations",
        "vanishing-gradients",
        "exploding-gradients",
        "rank-collapse",
        "overconfidence",
        "diverging",
        *_NOT_LEARNING,
    ),
    "symmetric-initialization": (
        "label-noise",  # a layer of one unit can no more tell examples apart than wrong labels let it
        "learning-rate-too-low",
        "rank-collapse",
        "dead-units",
        "no-gradient",
        "parameters-not-updated",
        *_NOT_LEARNING,
    ),
    "diverging": ("non-finite", "loss-spikes", *_NOT_LEARNING),
    "exploding-gradients": ("diverging", "non-finite", "gradient-spikes", "gradient-clipping-dominates"),
    "gradient-spikes": ("loss-spikes",),
    "loss-spikes": ("oscillating-loss",),
    "outlier-examples": ("loss-spikes", "gradient-spikes", "oscillating-loss", "diverging", "overfitting"),
    "dead-units": (
        "learning-rate-too-low",
        "vanishing-gradients",
        "no-gradient",
        "rank-collapse",
        "class-neglected",
        *_NOT_LEARNING,
    ),
    "saturated-activations": (
        "learning-rate-too-low",
        "vanishing-gradients",
        "rank-collapse",
        "class-neglected",
        *_NOT_LEARNING,
    ),
    "vanishing-gradients": (
        "parameters-not-updated",
        "learning-rate-too-low",
        "rank-collapse",
        "adam-epsilon-dominates",
        "class-neglected",
        *_NOT_LEARNING,
    ),
    "no-gradient": ("learning-rate-too-low", "parameters-not-updated", "rank-collapse", *_NOT_LEARNING),
    "parameters-not-updated": ("learning-rate-too-low", *_NOT_LEARNING),
    "double-softmax": (
        "learning-rate-too-low",
        "vanishing-gradients",
        "class-neglected",
        "overconfidence",
        *_NOT_LEARNING,
    ),
    "learning-rate-decayed-too-early": ("learning-rate-too-low", "weight-decay-dominates", *_NOT_LEARNING),
    # Where a model hardly moves its gradients stay those of the start, which have little noise.
    "learning-rate-too-low": ("class-neglected", "batch-too-large", *_NOT_LEARNING),
    "gradient-clipping-dominates": ("learning-rate-too-low", *_NOT_LEARNING),
    "adam-epsilon-dominates": ("learning-rate-too-low", *_NOT_LEARNING),
    "low-precision-underflow": (
        "no-gradient",
        "vanishing-gradients",
        "parameters-not-updated",
        "learning-rate-too-low",
        "non-finite",
        *_NOT_LEARNING,
    ),
    "weight-decay-dominates": (
        "learning-rate-too-high",
        "dead-units",
        "vanishing-gradients",
        "rank-collapse",
        "class-neglected",
        *_NOT_LEARNING,
    ),
    # What strong dropout lets through is scaled up, and so are the steps.
    "excessive-regularization": ("dead-units", "class-neglected", *_NOT_LEARNING),
    "gradient-conflict": _NOT_LEARNING,
    "batch-too-small": ("oscillating-loss", "batchnorm-small-batch"),
    "unshuffled-data": (
        "learning-rate-too-high",  # batches of one class after the other overthrow what was learned
        "oscillating-loss",
        "loss-spikes",
        "gradient-spikes",
        "class-neglected",
        "overfitting",
        *_NOT_LEARNING,
    ),
    "label-noise": (
        "overfitting",
        "memorization",
        "overconfidence",
        "class-neglected",  # among wrong labels a class is learned late
        *_NOT_LEARNING,
    ),
    # A held-out loss that rises is the harm; answers from memory are what it consists of.
    "overfitting": ("memorization", "overconfidence"),
    "memorization": ("overconfidence",),
    "duplicate-examples": ("overfitting", "memorization", "train-test-leakage"),
    "class-imbalance": ("class-neglected", "overconfidence", "overfitting", "memorization"),
    "train-eval-mode": (
        "overfitting",
        "batchnorm-small-batch",
        "non-finite",  # in eval mode nothing holds what BatchNorm lets through
        "class-neglected",
        *_TOO_FAR,
        *_NOT_LEARNING,
    ),
    "catastrophic-overfitting": ("overfitting",),
    "softmax-collapse": ("no-gradient", "delayed-generalization", "loss-plateau"),
    "loss-plateau": ("underfitting",),
}


def explains(cause: Finding, symptom: Finding) -> bool:
    """Whether the cause can bring about the symptom, as far as what was measured of it.

    A layer that is dead in part lets gradients through: what has none was cut off elsewhere. No measurement
    explains that a script leaves parameters out of its optimizers; where most are, what little is trained
    cannot learn, at any rate and from any labels. Nor does a loss explain the shapes of what it is given, nor
    a rate what gradients were before any step, nor mixed batches, in whichever order they return, anything.
    A class that is never said costs the more the surer the model gets, though its answers get better.
    """
    if _is_before_any_step(symptom) and cause.id in ("learning-rate-too-high", "gradients-accumulate"):
        return False
    if _is_before_any_step(cause) and symptom.id == "learning-rate-too-high":
        return True
    if symptom.id == "underfitting" and _is_crossed(symptom):
        return False
    if cause.id == "underfitting":
        return _is_crossed(cause) and symptom.id in _BELOW_SHAPES
    if symptom.id == "parameters-not-updated" and _left_out(symptom):
        return False
    if (cause.id, symptom.id) == ("class-neglected", "overfitting"):
        return _answers_improved(symptom)
    unsorted = cause.id == "unshuffled-data" and not _is_sorted(cause)
    if unsorted or (cause.id in ("loss-spikes", "gradient-spikes") and _is_at_random(symptom)):
        return False
    if (measured := _MEASURED.get((cause.id, symptom.id))) is not None:
        return measured(cause)
    if symptom.id == "label-noise" and _is_of_failing(symptom):
        return cause.id != symptom.id and "loss-plateau" in consequences(cause.id)
    return symptom.id in consequences(cause.id)


def _is_at_random(finding: Finding) -> bool:
    """Whether labels are no better than a guess, all along: that is no answer that was lost again."""
    return finding.id == "label-noise" and finding.severity == "error"


def _is_of_failing(finding: Finding) -> bool:
    """Whether nothing speaks against the labels but that calm steps led far and won nothing."""
    return any(item.name == "path of the weights" for item in finding.evidence)


def _answers_improved(finding: Finding) -> bool:
    """Whether held-out answers got better while their loss rose."""
    gains = [item for item in finding.evidence if item.name.startswith("gain of ")]
    return any(gain.low > 0 for gain in gains)


def _is_crossed(finding: Finding) -> bool:
    """Whether each output was held against all targets of its batch, by their shapes."""
    return any(item.name == "targets beside each output" for item in finding.evidence)


def _is_sorted(finding: Finding) -> bool:
    """Whether batches hold what is alike, and do not only return in one order."""
    return any(item.name == "sorting of batches" for item in finding.evidence)


def _is_before_any_step(finding: Finding) -> bool:
    """Whether gradients grew from layer to layer in the model as it was built."""
    return any(item.name == "the same before any step" for item in finding.evidence)


def _left_out(finding: Finding) -> float:
    """The share of all parameters that were found in no optimizer."""
    told = {item.name: item.value for item in finding.evidence}
    return told["parameters never updated"] / told["all parameters"] if "in no optimizer" in told else 0.0


# Pairs of which what was measured of the cause decides.
_MEASURED: dict[tuple[str, str], Callable[[Finding], bool]] = {
    ("parameters-not-updated", "learning-rate-too-high"): lambda cause: _left_out(cause) >= 0.5,
    ("parameters-not-updated", "label-noise"): lambda cause: _left_out(cause) >= 0.5,
    # `zero_grad` of an optimizer clears what it holds, and no more.
    ("parameters-not-updated", "gradients-accumulate"): lambda cause: _left_out(cause) > 0,
    # From 0.8 on dropout scales what it lets through by five and more, and the steps with it.
    ("excessive-regularization", "learning-rate-too-high"): lambda cause: _first(cause, "value") >= 0.8,
    # Training answers, averaged over such steps, are fewer than the model has right otherwise; and what was
    # lost again and again is lost most where it was learned least.
    ("loss-spikes", "label-noise"): lambda cause: _told(cause, "number of spikes") > 1,
    ("loss-spikes", "class-neglected"): lambda cause: _told(cause, "number of spikes") > 1,
    ("dead-units", "no-gradient"): lambda cause: _first(cause, "low") >= 0.99,
}


def _told(finding: Finding, name: str) -> float:
    return max((float(item.value) for item in finding.evidence if item.name == name), default=0.0)


def _first(finding: Finding, end: str) -> float:
    return float(getattr(finding.evidence[0], end)) if finding.evidence else 0.0


def consequences(cause: str) -> frozenset[str]:
    """Every finding that ``cause`` can bring about, directly or by way of another."""
    found: set[str] = set()
    waiting = list(SYMPTOMS.get(cause, ()))
    while waiting:
        symptom = waiting.pop()
        if symptom not in found:
            found.add(symptom)
            waiting.extend(SYMPTOMS.get(symptom, ()))
    return frozenset(found)
