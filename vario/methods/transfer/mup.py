"""Maximal-update parametrisation for an ordinary model: what each layer needs when the width grows.

Two copies of the model, narrow and wide, are compared shape by shape: a weight whose inputs and outputs both
grow is hidden, one whose outputs grow is an input weight, one whose inputs grow is an output weight. With r
the growth of its inputs, Adam's rate is divided by r for hidden weights, and an output weight has its
product divided by r; where it shares an embedding's weight, the product alone is. A hidden weight starts
with the narrow one's standard deviation over the root of r, any other with the narrow one's: a model that
starts all of them at .02, as GPT-2 does, has to be told. A parameter that is no layer's weight (a class
token, places) is taken for one that is added, as an embedding's.

A model of the `unit_scaling` package carries its own rule (u-muP): every parameter says what it is, and its
rate is the package's share of one global rate, the same at every width. Nothing is compared then.

When to use: the learning rate was tuned on a narrow copy and the wide one is too costly to tune.
When not to: depth, batch or training length grow too; attention must scale by 1 / d, not 1 / sqrt(d).

>>> import torch
>>> def make(width):
...     hidden = torch.nn.Linear(width, width)
...     return torch.nn.Sequential(torch.nn.Linear(3, width), hidden, torch.nn.Linear(width, 2))
>>> groups = mup_groups(make(256), make(64), lr=0.01)
>>> sorted({group["lr"] for group in groups})
[0.0025, 0.01]
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

CARD = {
    "papers": ("P141", "P219"),
    "slot": "parameter-groups",
    "treats": (),
    "example": {},
    "cost": "none",
    "checked": "closed form: rates and multipliers by hand; coordinate check of an MLP over widths, and of "
    "an MLP and a decoder built of unit-scaling 0.3.5 under torch 2.13",
    "changed": "dimensions are found by comparing two widths; the output multiplier is a "
    "forward pre-hook, not a class; u-muP is the package's, where a model is built of it",
    "shown": "best rate of a two-layer character transformer over widths 32, 64, 128, 256 (300 steps, rates "
    "a factor of 2 apart, two to three seeds, one H100; `bench/width.py`): u-muP the same at every width "
    "in every seed; muP the same, one step higher at 256 in one of two seeds; standard lower by 0, 1, 2"
    " and 3 steps. u-muP's decoder, widths 64 to 1,024, at the start: outputs, their gradients and "
    "weight gradients of independent tokens are .5 to 1.6, but for the readout, n^-1/2 by muP's own "
    "multiplier, and weight gradients of text, 3 to 9 at every width, for its rows are alike. After "
    "three steps sizes go with the width by slopes below .05. What the steps changed (32 to 256): slope"
    " -.5 at the embedding, whose rate the authors divide by the root of the width, -.2 at the first "
    "layer behind it, within .08 elsewhere; muP within .07 but -.22 and -.17 at the queries, divided as"
    " attention asks, and -.17 at the head, whose start fades; standard up to 1.33. nanoGPT, minGPT and "
    "transformers' GPT-2 as they are, .02 the start of every weight (64 to 512): by rates and multipliers "
    "alone up to 1.2; with the starts too within .13 (nanoGPT, of which one place of a row has a loss, "
    "-.22), but -.28 to -.35 at the tied head; rates of all three, a ViT and a ResNet those of `mup`",
}

__all__ = ["mup_groups", "plan", "coordinate_check"]

SAMPLED = 5.0  # standard errors by which two starts differ when they are not one start drawn twice
KINDS = ("input", "hidden", "output", "vector")


@dataclass(frozen=True)
class Row:
    """One parameter: its kind, rate, the standard deviation that it should start with, multiplier.

    ``rescale`` brings the wide copy's own start there; 1 where the two are alike as far as samples tell.
    """

    name: str
    kind: str
    lr: float
    init_std: float
    multiplier: float
    rescale: float = 1.0


def plan(wide: nn.Module, narrow: nn.Module, *, lr: float, optimizer: str = "adam") -> list[Row]:
    """What every parameter of ``wide`` needs, for a rate that was best on ``narrow``.

    A weight that a table of embeddings and an output layer share has two rows: its own, and the layer's.
    """
    if optimizer not in ("adam", "sgd"):
        raise ValueError(f"optimizer is 'adam' or 'sgd', not {optimizer!r}")
    before = dict(narrow.named_parameters(remove_duplicate=False))
    if any(getattr(parameter, "mup_type", None) for parameter in wide.parameters()):
        return unit_scaled_plan(wide, lr=lr, optimizer=optimizer)
    rows, seen = [], set[int]()
    tables = {f"{name}.weight" for name, one in wide.named_modules() if isinstance(one, nn.Embedding)}
    for name, parameter in wide.named_parameters(remove_duplicate=False):
        if name not in before or before[name].dim() != parameter.dim():
            raise ValueError(f"{name} {tuple(parameter.shape)} has no counterpart in the narrow model")
        layer = name.endswith("weight") and name not in tables
        row = _row(name, parameter, before[name], lr, optimizer, layer)
        if id(parameter) not in seen or row.multiplier != 1.0:
            rows.append(row)
        seen.add(id(parameter))
    return rows


def unit_scaled_plan(model: nn.Module, *, lr: float, optimizer: str = "adam") -> list[Row]:
    """The rates of `unit_scaling` for a model built of its layers; kinds are the package's own."""
    from unit_scaling.optim import lr_scale_func_adam, lr_scale_func_sgd

    share = lr_scale_func_adam if optimizer == "adam" else lr_scale_func_sgd(None)
    rows = []
    for name, parameter in model.named_parameters():
        kind = getattr(parameter, "mup_type", None)
        if kind is None:
            raise ValueError(
                f"{name} is no parameter of unit_scaling, but others of this model are; build it of "
                f"unit_scaling's layers, or none"
            )
        std = float(parameter.detach().float().std()) if parameter.numel() > 1 else 0.0
        rows.append(Row(name, kind, lr * float(share(parameter)), std, 1.0))
    return rows


def mup_groups(
    wide: nn.Module,
    narrow: nn.Module,
    *,
    lr: float,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    init: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups with their rates, for any torch optimizer; multipliers become pre-hooks.

    The hooks divide what enters an output layer; their handles are kept as ``mup_hooks`` on the model.
    ``init`` also rescales, in place, weights that start otherwise than they should: before training only.
    """
    rows = {row.name: row for row in plan(wide, narrow, lr=lr, optimizer=optimizer)}
    by_rate: dict[float, list[nn.Parameter]] = {}
    for name, parameter in wide.named_parameters():
        by_rate.setdefault(rows[name].lr, []).append(parameter)
        if init and rows[name].rescale != 1.0:
            parameter.data.mul_(rows[name].rescale)
    handles = [
        wide.get_submodule(name.rpartition(".")[0]).register_forward_pre_hook(_divide(row.multiplier))
        for name, row in rows.items()
        if row.multiplier != 1.0
    ]
    wide.mup_hooks = handles  # type: ignore[assignment]
    return [{"params": own, "lr": rate, "weight_decay": weight_decay} for rate, own in by_rate.items()]


def coordinate_check(
    make: Callable[[int], nn.Module],
    batch: Callable[[int], tuple[Any, Any]],
    loss: Callable[[Any, Any], Tensor],
    *,
    widths: Iterable[int] = (64, 128, 256, 512),
    base: int = 64,
    lr: float = 1e-3,
    steps: int = 3,
    apply: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Slope of log(mean change of each module's output) against log width after a few steps of Adam.

    Near 0 where features learn alike at every width; ``apply`` takes the plan's rates, starts and
    multipliers, and without it the standard parametrisation is checked. An input that is a mapping is given
    to the model as named arguments.
    """
    sizes: dict[str, list[float]] = {}
    widths = list(widths)
    for width in widths:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model, narrow = make(width), make(base)
            x, y = batch(width)
        groups = (
            mup_groups(model, narrow, lr=lr, init=True)
            if apply
            else [{"params": list(model.parameters()), "lr": lr}]
        )
        before = _outputs(model, x)
        optimizer = torch.optim.Adam(groups, lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(_ran(model, x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        after = _outputs(model, x)
        for name, value in before.items():
            sizes.setdefault(name, []).append(float((after[name] - value).abs().mean()))
    log_width = torch.tensor(widths, dtype=torch.float64).log()
    off = log_width - log_width.mean()
    return {
        name: float(
            (off * torch.tensor(own, dtype=torch.float64).clamp_min(1e-30).log()).sum() / (off**2).sum()
        )
        for name, own in sizes.items()
    }


def describe_file(
    path: Path, *, width: int, base: int, lr: float, optimizer: str, check: bool
) -> dict[str, Any]:
    """The plan for the ``make(width)`` of a user's file, and with ``check`` its coordinate check.

    What the file prints goes to stderr: it is no part of the answer.
    """
    with contextlib.redirect_stdout(sys.stderr):
        return _described(path, width=width, base=base, lr=lr, optimizer=optimizer, check=check)


def _described(
    path: Path, *, width: int, base: int, lr: float, optimizer: str, check: bool
) -> dict[str, Any]:
    if min(width, base) < 1 or not 0 < lr < math.inf:
        raise ValueError(f"width {width}, base {base}, lr {lr:g}: each must be above 0")
    module = _loaded(path)

    def make(size: int) -> nn.Module:
        model = _called(module, "make", size)
        if not isinstance(model, nn.Module):
            raise ValueError(f"{path}: make({size}) returned {model!r:.60}, not a torch model")
        return model

    rows = plan(make(width), make(base), lr=lr, optimizer=optimizer)
    if width != base and {row.kind for row in rows} <= {"input", "vector"}:
        raise ValueError(
            f"{path}: no layer of make({width}) has more inputs than in make({base}): the model ignores its "
            f"width"
        )
    by_mup = all(row.kind in KINDS for row in rows)
    theirs = None if not by_mup else package_rates(make, width=width, base=base, lr=lr, optimizer=optimizer)
    told: dict[str, Any] = {
        "parameters": [vars(row) | ({"lr_by_mup": theirs[row.name]} if theirs else {}) for row in rows],
        "mup_installed": theirs is not None,
    }
    if check:
        low, high = sorted((base, width))  # doubled between the two that were asked about, three at least
        widths = [low * 2**k for k in range(max(3, int(math.log2(high / low) + 1e-9) + 1))]
        told["coordinates"] = _checked(module, make, widths=widths, base=base, lr=lr)
    return told


def _checked(
    module: ModuleType, make: Callable[[int], nn.Module], *, widths: list[int], base: int, lr: float
) -> list[dict[str, Any]]:
    """The coordinate check by the file's own ``make_batch``, and its ``loss`` where it has one."""
    file, own = module.__file__, getattr(module, "loss", None)

    def batch(size: int) -> tuple[Any, Any]:
        made = _called(module, "make_batch", size)
        if isinstance(made, Mapping):
            return made, None
        if not (isinstance(made, (tuple, list)) and len(made) == 2):
            raise ValueError(
                f"{file}: make_batch({size}) must return a pair (input, target), or a dict of arguments of "
                f"a model that returns its loss"
            )
        return made[0], made[1]

    def loss(output: Any, target: Any) -> Tensor:
        if own is not None:
            return own(output, target)  # type: ignore[no-any-return]
        return _own_loss(output) if target is None else nn.functional.cross_entropy(output, target)

    try:
        slopes = coordinate_check(make, batch, loss, widths=widths, base=base, lr=lr)
    except (TypeError, RuntimeError, AttributeError) as error:  # their model, batch and loss disagree
        raise ValueError(f"{file}: the coordinate check: {type(error).__name__}: {error}") from error
    return [{"module": name, "slope": slope} for name, slope in slopes.items()]


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mup_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # as Python itself does for a file that it runs
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may fail in any way; its own words are passed on
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return module


def _called(module: ModuleType, name: str, size: int) -> Any:
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{module.__file__} has no function {name}(width)")
    try:
        return getattr(module, name)(size)
    except Exception as error:  # likewise
        raise ValueError(f"{module.__file__}: {name}({size}): {type(error).__name__}: {error}") from error


def package_rates(
    make: Callable[[int], nn.Module], *, width: int, base: int, lr: float, optimizer: str = "adam"
) -> dict[str, float] | None:
    """Every parameter's rate by the authors' `mup` (`MuAdam` or `MuSGD`); None where it is not installed."""
    if importlib.util.find_spec("mup") is None:
        return None
    import mup

    wide = make(width)
    mup.set_base_shapes(wide, make(base), delta=make(2 * base), rescale_params=False, do_assert=False)
    made = {"adam": mup.MuAdam, "sgd": mup.MuSGD}[optimizer](wide.parameters(), lr=lr)
    by_id = {id(p): float(group["lr"]) for group in made.param_groups for p in group["params"]}
    named = wide.named_parameters(remove_duplicate=False)
    return {name: by_id[id(parameter)] for name, parameter in named}


def _row(name: str, wide: Tensor, narrow: Tensor, lr: float, optimizer: str, layer: bool) -> Row:
    grown = [w / n for w, n in zip(wide.shape, narrow.shape, strict=True)]
    outputs, inputs = (*grown, *([1.0] * 2))[:2]
    hidden = inputs != 1.0 and outputs != 1.0
    std, rescale = _start(wide, narrow, inputs**-0.5 if hidden else 1.0)
    if hidden:
        rate = lr / inputs if optimizer == "adam" else lr * outputs / inputs
        return Row(name, "hidden", rate, std, 1.0, rescale)
    rate = lr if optimizer == "adam" else lr * math.prod(grown)  # one of them at most is not 1
    if inputs != 1.0 and layer:
        return Row(name, "output", rate, std, 1.0 / inputs, rescale)
    return Row(name, "vector" if wide.dim() < 2 else "input", rate, std, 1.0, rescale)


def _start(wide: Tensor, narrow: Tensor, share: float) -> tuple[float, float]:
    """Standard deviation to start with, ``share`` of the narrow copy's, and what brings the wide one there.

    Biases keep their own: they start small, and few numbers tell little.
    """
    own, before = (float(one.detach().float().std()) if one.numel() > 1 else 0.0 for one in (wide, narrow))
    if wide.dim() < 2 or not own or not before:
        return own, 1.0
    sampled = math.sqrt(0.5 / wide.numel() + 0.5 / narrow.numel())  # of the log of their ratio
    rescale = share * before / own
    return (own * rescale, rescale) if abs(math.log(rescale)) > SAMPLED * sampled else (own, 1.0)


def _divide(multiplier: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        return (inputs[0] * multiplier, *inputs[1:])

    return hook


def _ran(model: nn.Module, x: Any) -> Any:
    return model(**x) if isinstance(x, Mapping) else model(x)


def _own_loss(output: Any) -> Tensor:
    """The one number among what a model returned: the loss that it worked out itself."""
    parts = output.values() if isinstance(output, Mapping) else output
    for one in parts if isinstance(parts, Iterable) and not isinstance(parts, Tensor) else (parts,):
        if isinstance(one, Tensor) and one.numel() == 1:
            return one
    raise ValueError(
        "the model returned no loss: let make_batch return (input, target), and add loss(out, y)"
    )


def _outputs(model: nn.Module, x: Any) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            if isinstance(output, Tensor):
                seen[name] = output.detach().clone()

        return hook

    leaves = [(name, one) for name, one in model.named_modules() if not list(one.children())]
    handles = [one.register_forward_hook(keep(name)) for name, one in leaves]
    with torch.no_grad():
        _ran(model, x)
    for handle in handles:
        handle.remove()
    return seen
