"""The command `quarterjack`; it needs the extra quarterjack[cli]."""

import sys

EXTRA = ("yaml", "jsonschema")


def main() -> None:
    """Run the command, or say what is missing."""
    try:
        from quarterjack.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        sys.exit(f"quarterjack: {error.name} is missing: pip install 'quarterjack[cli]'")
    sys.exit(run(sys.argv[1:]))
