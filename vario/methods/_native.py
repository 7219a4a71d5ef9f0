"""A function in C, built on first use by the compiler of this machine; None where there is none.

It is built anew in each process, in less than a second: no machine can find what was built for another.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

PLAIN = ("-O3", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")
FLAGS = (  # the first that the compiler takes
    (*PLAIN, "-march=native", "-fopenmp"),
    (*PLAIN, "-march=native"),
    PLAIN,
)


@functools.cache
def built(source: Path, name: str) -> Any:
    """The function ``name`` of a C file that needs nothing but the C library, for ctypes to call."""
    try:
        return _build(source)[name]
    except (OSError, LookupError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"{name} could not be built and runs eagerly, which is slower ({error}). It needs a "
            f"C compiler, named cc, gcc or clang, or by the variable CC.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def _build(source: Path) -> ctypes.CDLL:
    asked = shlex.split(os.environ.get("CC", ""))
    compiler = asked or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not compiler:
        raise LookupError("no C compiler was found")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = Path(folder) / f"{source.stem}.so"
        for flags in FLAGS:
            command = [*compiler, *flags, "-o", str(library), str(source), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                return ctypes.CDLL(str(library))
    raise OSError(f"{shlex.join(command)}: {(done.stderr.splitlines() or ['it failed'])[0]}")
