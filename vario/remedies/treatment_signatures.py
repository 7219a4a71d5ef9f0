"""What the sources say of methods and of torch's classes: their slots, signatures, and what they replace.

Read with ``ast``, those of torch as well, so that nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path

from vario.nouns import VarioError
from vario.remedies import catalog

__all__ = [
    "layer_targets",
    "options_of",
    "public_name",
    "slot_of",
    "takes_logits",
    "takes_text",
    "torch_layers",
    "torch_optimizers",
]

# The first argument of the public function or class that goes into a slot.
_FIRST = {
    "optimizer": ("params",),
    "optimizer-around": ("base",),
    "sampler": ("size", "labels", "groups"),
    "schedule": ("optimizer",),
    "rule-of-change": ("optimizer",),
}
# What the slot gives itself.
_GIVEN = {"rank", "ranks", "last_epoch", "apply", "self", "cls"}
_IN_PLACE = re.compile(r"In place of ``nn\.(\w+)``([^;.]*)")


def slot_of(method: str) -> str:
    """The slot of a method, "optimizer" for classes of ``torch.optim``."""
    if method in torch_optimizers():
        return "optimizer"
    return str(catalog.find(method).card.get("slot", ""))


@functools.cache
def options_of(method: str) -> dict[str, bool]:
    """The options of a method and whether each must be given."""
    if method in torch_optimizers():
        known = _keywords(_torch_signature(method))
        return {name: needed for name, needed in known.items() if name != "params"}
    node = _public(method)
    known = _keywords(_signature(node)) if node is not None else {}
    first = [name for name in _FIRST.get(slot_of(method), ()) if name != "groups"]
    known = {name: needed for name, needed in known.items() if name not in first}
    for twin in _conversions(method) if slot_of(method) == "layer" else []:
        known = {name: needed for name, needed in _keywords(twin.args).items() if name != "module"}
    if slot_of(method) == "rule-of-change":  # the others are not the optimizer's
        known = {name: needed for name, needed in known.items() if name not in ("ema_decay", "steps")}
    return known


@functools.cache
def takes_text(method: str, option: str) -> bool:
    """Whether a word may stand for the option; False where its annotation names numbers only."""
    if method in torch_optimizers():
        signatures = [_torch_signature(method)]
    else:
        twins = _conversions(method) if slot_of(method) == "layer" else []
        node = _public(method)
        signatures = [twin.args for twin in twins] or ([_signature(node)] if node is not None else [])
    arguments = [arg for signature in signatures for arg in (*signature.args, *signature.kwonlyargs)]
    said = [ast.unparse(arg.annotation) for arg in arguments if arg.arg == option and arg.annotation]
    return not said or any(re.search(r"\bstr\b|Any|Sequence|Literal|Callable", text) for text in said)


def public_name(method: str) -> str:
    """The class or function of the method's file that goes into its slot."""
    node = _public(method)
    if node is None:
        raise VarioError(f"{method}: its file names nothing that fits into the slot {slot_of(method)!r}.")
    return node.name


def layer_targets(method: str) -> tuple[str, ...]:
    """The layers of torch that a layer method replaces, from its docstrings and annotations."""
    found: list[str] = []
    for member in _conversions(method):
        required = member.args.args[1 : len(member.args.args) - len(member.args.defaults)]
        if member.args.vararg or len(required) != 1:
            return ()
        named = {n.attr for n in ast.walk(member) if isinstance(n, ast.Attribute)}
        found += [name for name in torch_layers() if name in named and name != "Module"]
    for node in _publics(method):
        said = _IN_PLACE.search(ast.get_docstring(node) or "")
        if said:  # "``nn.BatchNorm1d``, ``2d``" is BatchNorm1d and BatchNorm2d
            names = [said[1], *(said[1][:-2] + more for more in re.findall(r"``(\dd)``", said[2]))]
            found += [name for name in names if name in torch_layers()]
    return tuple(dict.fromkeys(found))


def _conversions(method: str) -> list[ast.FunctionDef]:
    """The from_existing methods of a file's public classes."""
    members = [member for node in _publics(method) for member in node.body]
    return [m for m in members if isinstance(m, ast.FunctionDef) and m.name == "from_existing"]


@functools.cache
def torch_optimizers() -> tuple[str, ...]:
    """The names of the classes of ``torch.optim``."""
    return tuple(_torch_optimizer_nodes())


@functools.cache
def torch_layers() -> tuple[str, ...]:
    """The names of the classes of ``torch.nn``."""
    folder = _torch("nn/modules")
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


@functools.cache
def _torch_optimizer_nodes() -> dict[str, ast.ClassDef]:
    found = {}
    for path in sorted(_torch("optim").glob("*.py")):
        if path.stem in ("optimizer", "lr_scheduler", "swa_utils"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)] if _is_class(node) else []  # type: ignore[attr-defined]
            if isinstance(node, ast.ClassDef) and {"Optimizer", "Adam"} & set(bases):
                found[node.name] = node
    return dict(sorted(found.items()))


def _torch(folder: str) -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise VarioError("torch is not installed for this Python, so nothing can be put into a script of it.")
    return Path(spec.origin).parent / folder


def _torch_signature(name: str) -> ast.arguments:
    return _signature(_torch_optimizer_nodes()[name])


def _is_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef)


def _publics(method: str) -> list[ast.ClassDef | ast.FunctionDef]:
    tree = ast.parse(catalog.find(method).path.read_text(encoding="utf-8"))
    made = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [made[name] for name in ast.literal_eval(node.value) if name in made]
    return [node for name, node in made.items() if not name.startswith("_")]


def _public(method: str) -> ast.ClassDef | ast.FunctionDef | None:
    wanted = _FIRST.get(slot_of(method))
    for node in _publics(method):
        arguments = [arg.arg for arg in _signature(node).args if arg.arg != "self"]
        if wanted is None or (arguments and arguments[0] in wanted):
            return node
    return None


def _signature(node: ast.ClassDef | ast.FunctionDef) -> ast.arguments:
    if isinstance(node, ast.FunctionDef):
        return node.args
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return member.args
    return ast.arguments([], [], None, [], [], None, [])


def _keywords(signature: ast.arguments) -> dict[str, bool]:
    plain = signature.args
    required = len(plain) - len(signature.defaults)
    found = {arg.arg: place < required for place, arg in enumerate(plain)}
    pairs = zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
    found.update({arg.arg: default is None for arg, default in pairs})
    return {name: needed for name, needed in found.items() if name not in _GIVEN}


def takes_logits(method: str) -> bool:
    """Whether a loss of the method is called with (output, target)."""
    for node in _publics(method):
        function = node if isinstance(node, ast.FunctionDef) else _forward(node)
        if function is None:
            continue
        names = [arg.arg for arg in function.args.args if arg.arg != "self"]
        if len(names) - len(function.args.defaults) == 2 and names[1] in ("target", "targets", "labels"):
            return True
    return False


def _forward(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "forward"), None)
