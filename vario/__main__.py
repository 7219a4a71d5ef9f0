"""``python -m vario`` is ``vario``."""

from vario.cli import main

main()
