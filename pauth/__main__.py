"""``python -m pauth``: the command ``pauth``."""

from pauth.cli import main

main()
