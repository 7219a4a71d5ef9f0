"""One illness per file: a Record in, a Finding, None or NotApplicable out. No torch.

``ALL`` names every rule; a rule is imported when it is used. Rules of your own stand beside them:
``diagnose(run, rules=[*ALL, mine])`` takes modules, or anything with ``ID``, ``CARD`` and ``check``.
"""

from __future__ import annotations

import pkgutil

from vario.rules._diagnose import Rule, diagnose

ALL: tuple[str, ...] = tuple(
    sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
)

__all__ = ["ALL", "Rule", "diagnose"]
