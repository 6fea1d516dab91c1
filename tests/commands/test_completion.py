"""What a shell completes, in the way that docs/command_line.md says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SPURIOUS = Path(sys.executable).with_name("spurious")


def completed(words, shell="bash"):
    """What is offered for the last of the words."""
    environment = {
        "_SPURIOUS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([SPURIOUS], env=os.environ | environment, capture_output=True, text=True)
    return [line.split(",", 1)[1] for line in done.stdout.splitlines()]


def test_commands_are_completed():
    assert set(completed(["spurious", "a"])) == {"assess", "attack", "audit"}


def test_options_are_completed():
    assert completed(["spurious", "simulate", "--w"]) == ["--workers"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell):
    environment = os.environ | {"_SPURIOUS_COMPLETE": f"{shell}_source"}
    script = subprocess.run([SPURIOUS], env=environment, capture_output=True, text=True).stdout
    assert f"_SPURIOUS_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
