"""Run `python -m quarterjack.cli` as the command."""

from quarterjack.cli import main

main()
