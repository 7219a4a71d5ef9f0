"""The words that a treatment may use: slots and their settings, methods and their options.

A slip of the pen is told before anything starts, and without importing torch.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from vario.nouns import VarioError
from vario.remedies import catalog
from vario.remedies.search import search
from vario.remedies.treatment_signatures import (
    layer_targets,
    options_of,
    public_name,
    slot_of,
    takes_logits,
    takes_text,
    torch_layers,
    torch_optimizers,
)

__all__ = [
    "SETTINGS",
    "SHORT",
    "SINGLE",
    "check_factory",
    "check_method",
    "check_setting",
    "counts",
    "factory_slot",
    "filled_in",
    "layer_targets",
    "method_name",
    "options_of",
    "parsed",
    "public_name",
    "refusal",
    "slot_of",
    "torch_optimizers",
    "uncounted",
]

SETTINGS: dict[str, tuple[str, ...]] = {
    "optimizer": tuple(
        (
            "lr momentum betas eps weight_decay nesterov dampening amsgrad alpha rho maximize "
            "lr_decay momentum_decay lambd"
        ).split()
    ),
    "loader": ("batch_size", "shuffle", "drop_last", "drop_broken"),
    "gradient": ("clip_norm", "cleared"),
    "loss": ("label_smoothing", "probabilities", "huber", "wrong_labels", "weight", "float64"),
    "schedule": ("warmup_steps", "stop_after", "slower"),
    "layer": (),
    "start": ("usual", "fan_in"),
    "parameters": ("learn",),
    "mode": ("training", "evaluation"),
    "input": ("mean", "std", "standardized"),
    "target": ("mean", "std"),
}
_YES_OR_NO = frozenset(
    "loader.shuffle loader.drop_last optimizer.nesterov optimizer.amsgrad optimizer.maximize".split()
)
_ONLY_YES = frozenset(  # where it is not wanted, it is left out
    (
        "loader.drop_broken gradient.cleared loss.probabilities loss.float64 start.usual start.fan_in "
        "parameters.learn mode.training mode.evaluation input.standardized"
    ).split()
)
SHORT = {
    "lr": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "batch_size": "loader.batch_size",
}
SINGLE = ("optimizer", "sampler", "loader", "loss", "schedule", "rule-of-change")
FACTORY_SLOTS = ("optimizer", "sampler", "loader", "layer")

_REFUSED_SLOTS = {
    "parameter-groups": "it compares the model with the same model at another width, which only the script "
    "can build",
    "batch-sampler": "it decides on measurements of the gradient's variance that a training loop must hand "
    "to it; try a larger batch with loader.batch_size=N",
    "training-step": "its backward() and step() take the place of the script's own, with a count for each "
    "micro-batch that only the script knows",
    "posthoc": "it works on finished models, after the training",
    "detectors": "it works on what a finished model computes, after the training",
    "hpo": "it is a loop around trainings, not a change of one",
    "layers": "it works on a finished model, and when its model is finished only the script knows",
    "losses": "it wants more than (output, target), which only the script can hand to it",
}
_REFUSED = {
    "bloop": "the script must hand it an auxiliary loss apart from the training loss",
    "shared-norm": "it merges a norm into the linear layers that read it, and which ones do only the model's "
    "code knows",
    "svag": "it makes a gradient of those of two batches, and a script makes one of one",
    "tiled-contrastive": "it takes two sets of features, and scripts write that loss by hand, without a "
    "function of torch whose place it could take",
}
_READY = ("optimizer", "optimizer-around", "sampler", "schedule", "layer", "loss", "rule-of-change")


def method_name(text: str) -> str:
    """The id of a method, or the name of a class of ``torch.optim``."""
    if text in torch_optimizers():
        return text
    known = [entry.id for entry in catalog.entries() if entry.kind == "method"]
    wanted = text.lower().replace("_", "-")
    if wanted in known:
        return wanted
    if text.lower() in (lowered := {name.lower(): name for name in torch_optimizers()}):
        return lowered[text.lower()]
    names = [*known, *torch_optimizers()]
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    near = near or [entry.id for entry in search(text)][:3]
    raise VarioError(
        f"--with {text}: no method is called so.{_near(near)} `vario methods WORDS` searches in plain words."
    )


def refusal(method: str) -> str:
    """Why a method cannot be put into an unmodified script; "" where it can."""
    slot = slot_of(method)
    if method in _REFUSED:
        return _REFUSED[method]
    if slot not in _READY:
        kind = slot or catalog.find(method).shelf
        return _REFUSED_SLOTS.get(kind, f"an unmodified script has no place for what is of the kind {kind}")
    if slot == "loss" and not takes_logits(method):
        return "it does not take (output, target), so it cannot stand in for the script's cross entropy"
    if slot == "layer" and not layer_targets(method):
        return "its card does not say which layer of torch it replaces, and it has no from_existing(module)"
    return ""


def check_method(method: str, options: Mapping[str, str]) -> None:
    """Raises VarioError where the method cannot be put in, or an option is unknown or missing.

    What counts a run's steps or epochs may be missing: a trial finds it out.
    """
    if reason := refusal(method):
        raise VarioError(f"--with {method}: cannot be put into an unmodified script: {reason}.")
    known = options_of(method)
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or list(known)
            raise VarioError(f"--with {method}: it has no option {key!r}.{_near(near)}")
        if isinstance(parsed(options[key]), str) and not takes_text(method, key):
            raise VarioError(f"--with {method}:{key}={options[key]}: {options[key]!r} is not a number.")
    missing = [key for key, required in known.items() if required and key not in options]
    missing = [
        key for key in missing if key not in (*_found_by_the_slot(method), *uncounted(method, options))
    ]
    if missing:
        raise VarioError(
            f"--with {method}: it needs {' and '.join(missing)}, such as "
            f"{method}:{','.join(f'{key}=100' for key in missing)}. "
            f"A prescription of a recorded run fills them in."
        )


def counts(steps: int, epochs: int) -> dict[str, int]:
    """The options that count a run's steps or epochs, for a run of that length."""
    warmup = max(1, min(5 * steps // max(epochs, 1), steps // 10))
    return {"total_steps": steps, "warmup_steps": warmup, "epochs": epochs}


def uncounted(method: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The options of ``counts`` that the method must be given and was not."""
    known = options_of(method)
    return tuple(key for key in counts(1, 1) if known.get(key) and key not in options)


def filled_in(method: str, *, steps: int, epochs: int, finding: str = "") -> str:
    """What ``--with`` takes for a run of that length: the method, and its options that count steps.

    What scales the batch makes it four times as large, or a fourth of it where it is found too large.

    A warm-up takes five epochs, as in its paper, but at most a tenth of the run, from a tenth of the rate.
    """
    usual: dict[str, float] = {**counts(steps, epochs), "factor": 10}
    try:
        known = options_of(method)
    except VarioError:
        return method
    wanted = [key for key, required in known.items() if required and usual.get(key)]
    if slot_of(method) == "rule-of-change":
        wanted, usual["factor"] = ["factor"], 0.25 if finding == "batch-too-large" else 4
    return method + (":" + ",".join(f"{key}={usual[key]}" for key in wanted) if wanted else "")


def _found_by_the_slot(method: str) -> set[str]:
    """Required options that the slot finds out in the script."""
    return {"labels", "groups"} if slot_of(method) == "sampler" else set()


def check_setting(slot: str, key: str, value: str) -> None:
    """Raises VarioError for a slot, a key or a kind of value that does not exist."""
    if slot not in SETTINGS:
        near = difflib.get_close_matches(slot, SETTINGS, n=2, cutoff=0.4) or list(SETTINGS)
        raise VarioError(f"{slot}.{key}={value}: there is no slot {slot!r}.{_near(near)}")
    if slot == "layer":
        return _check_layer(key, value)
    if key not in SETTINGS[slot]:
        near = difflib.get_close_matches(key, SETTINGS[slot], n=3, cutoff=0.4) or list(SETTINGS[slot])
        raise VarioError(f"{slot}.{key}={value}: {slot} has no setting {key!r}.{_near(near)}")
    fits, wanted = _fits(f"{slot}.{key}", parsed(value))
    if not fits:
        raise VarioError(f"{slot}.{key}={value}: {value!r} is not {wanted}.")
    return None


def _fits(setting: str, given: object) -> tuple[bool, str]:
    """Whether a value is of the kind that the setting takes, and what that kind is."""
    key = setting.partition(".")[2]
    number = isinstance(given, float | int) and not isinstance(given, bool) and math.isfinite(given)
    if setting in _YES_OR_NO:
        return isinstance(given, bool), "true or false"
    if setting in _ONLY_YES:
        return given is True, "true; leave it out where it is not wanted"
    if key in ("batch_size", "warmup_steps", "stop_after", "slower"):
        return number and isinstance(given, int) and given > 0, "a whole number above 0"
    if key == "betas":
        fits = isinstance(given, tuple) and all(isinstance(b, float | int) and 0 <= b < 1 for b in given)
        return fits, "two numbers below 1, such as (0.9,0.95)"
    if key == "weight":
        fits = isinstance(given, tuple) and len(given) > 1 and all(map(_is_weight, given))
        return fits, "a number of 0 or more for each class, such as (0.5,2)"
    if key in ("std", "huber"):
        return number and given > 0, "a number above 0"  # type: ignore[operator]
    if setting == "loss.wrong_labels":
        return number and 0 <= given < 1, "a share below 1"  # type: ignore[operator]
    if key == "mean":
        return number, "a number"
    return number and given >= 0, "a number of 0 or more"  # type: ignore[operator]


def _is_weight(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < math.inf


def _check_layer(key: str, value: str) -> None:
    if "." in key:  # an attribute: layer.Dropout.p=0.3
        if key.count(".") > 1 or not isinstance(parsed(value), bool | int | float):
            raise VarioError(f"layer.{key}={value}: write layer.CLASS.attribute=number, or true or false.")
        return
    if value not in torch_layers():
        names = [*torch_layers()]
        near = difflib.get_close_matches(value, names, n=3, cutoff=0.5)
        raise VarioError(f"layer.{key}={value}: torch.nn has no layer {value!r}.{_near(near)}")


def check_factory(factory: str, options: Mapping[str, str]) -> None:
    """Raises VarioError where the file or the function is missing, or it is not said what it replaces."""
    slot = factory_slot(factory)
    function = _factory_function(factory)
    allowed = [arg.arg for arg in [*function.args.args[1:], *function.args.kwonlyargs]]
    allowed += ["of"] if slot == "layer" else []
    for key in options:
        if key not in allowed and not function.args.kwarg:
            raise VarioError(f"--with {factory}: {function.name} has no argument {key!r}.{_near(allowed)}")
    if slot == "layer" and "of" not in options:
        raise VarioError(f"--with {factory}: say which class it replaces, such as {factory}:of=GELU.")


def factory_slot(factory: str) -> str:
    """What the function is given, by the name of its first argument."""
    arguments = _factory_function(factory).args.args
    first = arguments[0].arg if arguments else ""
    slot = {"opt": "optimizer", "module": "layer", "dataloader": "loader"}.get(first, first)
    if slot not in FACTORY_SLOTS:
        raise VarioError(
            f"--with {factory}: the name of its first argument says what it replaces: one of "
            f"{', '.join(FACTORY_SLOTS)}; it is {first!r}."
        )
    return slot


def _factory_function(factory: str) -> ast.FunctionDef:
    place, _, name = factory.rpartition(":")
    try:
        tree = ast.parse(Path(place).read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise VarioError(f"--with {factory}: {place} cannot be read: {error}.") from None
    made = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in made:
        if node.name == name:
            return node
    raise VarioError(f"--with {factory}: {place} has no function {name!r}.{_near(n.name for n in made)}")


def parsed(text: str) -> object:
    """A value as it is typed: true, false, none, a number, a tuple, else the text itself."""
    word = {"true": True, "false": False, "none": None}
    if text.strip().lower() in word:
        return word[text.strip().lower()]
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()
    return tuple(value) if isinstance(value, list) else value


def _near(names: Iterable[str]) -> str:
    listed = list(names)
    return f" Near it: {', '.join(listed)}." if listed else ""
