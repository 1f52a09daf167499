"""``python -m phagostat.cli``."""

from phagostat.cli import main

main()
