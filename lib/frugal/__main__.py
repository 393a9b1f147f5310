"""`python -m frugal`, which launchers can start where they cannot start a script."""

from frugal.cli import main

main()
