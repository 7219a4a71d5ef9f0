"""Run by Python at its start, because `vario run` put this folder on PYTHONPATH: waits for torch.

Costs next to nothing in a process without torch. Another sitecustomize that this one hides is run too.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is not imported for this: it costs every Python process
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


class _WaitForTorch:
    """A finder that finds nothing, but starts the watch right after torch has been imported.

    It stays until then: many a library looks first whether there is a torch.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "torch":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._start_after(spec.loader)
                return spec
        return None

    def _start_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _start()

        loader.exec_module = exec_module


def _start() -> None:
    try:
        try:
            import vario
        except ImportError:  # another environment's Python: vario stands beside this file
            sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))
            import vario  # noqa: F401
        from vario.watching import start_from_environment

        start_from_environment()
    except Exception as error:
        sys.stderr.write(f"vario: not watching this process ({type(error).__name__}: {error})\n")


def _run_the_hidden_one() -> None:
    from importlib.machinery import PathFinder

    others = [place for place in sys.path if os.path.abspath(place or ".") != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


if os.environ.get("VARIO_RUN"):
    sys.meta_path.insert(0, _WaitForTorch())
_run_the_hidden_one()
