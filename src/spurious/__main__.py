"""The command `spurious`, or `python -m spurious`: prepares this process, then `spurious.cli`.

What stands here changes no result: no stage depends on it.
"""

from spurious.light import load_less
from spurious.memory import keep_freed

# At import: a worker process, which imports the script that started it, does the same.
load_less()
keep_freed()


def main() -> None:
    """Run the command line."""
    from spurious import cli

    cli.main()


if __name__ == "__main__":
    main()
