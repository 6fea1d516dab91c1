"""Keras loads less; what is left out is there for everything else, and workers do the same."""

import subprocess
import sys

LOADED = "print([name in sys.modules for name in ('keras', 'matplotlib', 'pandas', 'sklearn')])"
START = "import sys\nfrom spurious.light import load_less\nload_less()\n"
WORKER = """
import sys
from spurious.__main__ import main  # the script that the installation writes
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
if __name__ == "__main__":
    from worker_of_test import loaded
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(pool.submit(loaded).result())
"""
LOADED_IN_WORKER = """
import sys
def loaded():
    import tensorflow, keras
    return [name in sys.modules for name in ("keras", "matplotlib", "pandas", "sklearn")]
"""


def printed(*command, cwd=None):
    return subprocess.check_output([sys.executable, *command], text=True, cwd=cwd).strip()


def test_keras_loads_none_of_them():
    assert printed("-c", f"{START}import keras\n{LOADED}") == "[True, False, False, False]"


def test_they_are_found_after_keras():
    code = f"{START}import keras, matplotlib.pyplot, pandas, sklearn\n{LOADED}"
    assert printed("-c", code) == "[True, True, True, True]"


def test_keras_sees_what_was_there_before():
    code = f"{START}import sklearn, keras\nkeras.wrappers.SKLearnClassifier(keras.Sequential)"
    assert printed("-c", code) == ""


def test_workers_load_less_too(tmp_path):
    (tmp_path / "script").write_text(WORKER)
    (tmp_path / "worker_of_test.py").write_text(LOADED_IN_WORKER)
    assert printed("script", cwd=tmp_path) == "[True, False, False, False]"
