"""The comparison of a run with a commit's results: which numbers and verdicts it says changed."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "reproduced.py"
TABLES = {
    "attacks": "perturbation,kl,kl.low,kl.high,n\nbim,4,3,5,7\nfgsm,1,0.5,2,7\nnoise,,,,7\n",
    "posteriors": "posterior,nll,nll.low,nll.high\ncompact,-3,-3.5,-2.5\n",
    "detection": "perturbation,detector,auroc,auroc.low,auroc.high,verdict\n"
    "bim,network,0.9,0.8,0.95,noticed\nbim,pdf,0.6,0.55,0.65,not seen\n",
    "defences": "defence,damage,damage.low,damage.high\nadversarial,0.3,0.2,0.4\n",
}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "results" / "pilot"
    folder.mkdir(parents=True)
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, "commit", "-qm", "results"], cwd=tmp_path, check=True)
    return tmp_path


def reproduced(project, *arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_the_same_results_agree(project):
    printed = reproduced(project).stdout
    assert "attacks: 2 of 2 means" in printed
    assert "detection: 2 of 2 means" in printed
    assert "detection: 0 of 2 verdicts changed" in printed
    assert "here" not in printed


def test_what_lies_outside_is_named(project):
    attacks = project / "results" / "pilot" / "attacks.csv"
    attacks.write_text(TABLES["attacks"].replace("bim,4,3,5", "bim,5.1,4,6"))
    printed = reproduced(project).stdout
    assert "attacks: 1 of 2 means" in printed
    assert "bim, kl: 4 [3, 5], here 5.1" in printed


def test_changed_verdicts_and_lost_rows_are_named(project):
    detection = project / "results" / "pilot" / "detection.csv"
    text = TABLES["detection"].replace("0.95,noticed", "0.95,not seen")
    detection.write_text("\n".join(text.splitlines()[:2]) + "\n")
    printed = reproduced(project).stdout
    assert "detection: 1 of 1 verdicts changed" in printed
    assert "bim network: noticed, here not seen" in printed
    assert "rows that one of both lacks: bim pdf" in printed


def test_mistakes_are_one_line(project):
    assert "error: --commit = 'nowhere'" in reproduced(project, "--commit", "nowhere").stderr
    done = reproduced(project, "--scale", "paper")
    assert done.returncode
    assert "results/paper/attacks.csv is missing" in done.stderr
