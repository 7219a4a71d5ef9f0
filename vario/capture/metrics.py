"""Numbers that the script prints, read from its standard output as it writes them.

The stream object stays the same and every text goes through unchanged; only its `write` is listened to.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["listen_to_lines", "listen_to_stdout"]

LONGEST_LINE = 10_000  # of a line without end, the last characters


def listen_to_stdout(patterns: Mapping[str, str], tell: Callable[[str, float], None]) -> None:
    """Call `tell(name, number)` for each line of stdout on which the pattern's first group is a number."""
    compiled = {name: re.compile(pattern) for name, pattern in patterns.items()}

    def line_came(line: str) -> None:
        for name, pattern in compiled.items():
            found = pattern.search(line)
            if found is not None:
                tell(name, float(found[1]))

    listen_to_lines(line_came)


def listen_to_lines(line_came: Callable[[str], None]) -> None:
    """Call `line_came(line)` for each line that is written to stdout, where there is one."""
    if sys.stdout is None:  # a shell closed it
        return
    stream, write, rest = sys.stdout, sys.stdout.write, [""]

    def listening(text: Any) -> Any:
        written = write(text)
        try:
            *lines, rest[0] = (rest[0] + text)[-LONGEST_LINE:].replace("\r", "\n").split("\n")
            for line in lines:
                line_came(line)
        except Exception:  # not a text, not a number: whatever it is, the script's `print` goes on
            rest[0] = ""
        return written

    stream.write = listening  # type: ignore[method-assign]
