"""One version everywhere, and a tag that is called after it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import spurious
from spurious.cli import main
from spurious.commands import version as module

ROOT = Path(__file__).parents[2]


def git(*arguments, cwd=ROOT):
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == spurious.__version__
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == spurious.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "spurious.__version__"


def test_a_tag_of_this_commit_is_called_after_the_version():
    tags = [tag for tag in git("tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    assert set(tags) <= {f"v{spurious.__version__}"}
    if tags:
        assert "unreleased" not in (ROOT / "CHANGELOG.md").read_text()


def test_a_clone_says_its_commit():
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0
    commit = re.escape(git("rev-parse", "--short", "HEAD"))
    pattern = rf"spurious {re.escape(spurious.__version__)} \((v.+-)?g?({commit}|v\S+)(-dirty)?\)"
    assert re.fullmatch(pattern, done.output.strip())


@pytest.mark.parametrize("tagged", [False, True])
def test_commits_after_a_tag_are_counted(tagged, tmp_path, monkeypatch):
    package = tmp_path / "src" / "spurious" / "commands" / "version.py"
    monkeypatch.setattr(module, "__file__", str(package))
    assert module.version() == spurious.__version__  # no clone: a wheel
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    git("init", "-q", cwd=tmp_path)
    for message in ("one", "two"):
        git(*who, "commit", "-q", "--allow-empty", "-m", message, cwd=tmp_path)
        if tagged and message == "one":
            git("tag", "v0.1.0", cwd=tmp_path)
    commit = git("rev-parse", "--short", "HEAD", cwd=tmp_path)
    said = f"v0.1.0-1-g{commit}" if tagged else commit
    assert module.version() == f"{spurious.__version__} ({said})"
