"""``python -m pauth.cli``: the command ``pauth``."""

from pauth.cli import main

main()
