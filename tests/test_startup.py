"""TensorFlow starts without its usual lines, and without losing others."""

import os
import subprocess
import sys

from spurious import startup


def stderr_of(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_first_import_of_tensorflow_says_nothing_and_the_module_is_as_ever():
    code = (
        "import spurious, tensorflow as tf; from importlib.machinery import SourceFileLoader; "
        "assert type(tf.__spec__.loader) is type(tf.__loader__) is SourceFileLoader; "
        "assert tf.constant(1.0).numpy() == 1"
    )
    assert stderr_of(code, TF_CPP_MIN_LOG_LEVEL="3") == ""


COMPILED = (
    "import os, spurious, tensorflow as tf; "
    "assert os.environ.get('TF_CPP_MIN_LOG_LEVEL', '0') == '0'; "
    "tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1.0))"
)


def test_a_program_is_told_nothing_of_xla_unless_it_asks(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert "XLA" not in stderr_of(COMPILED)
    assert "Compiled cluster using XLA!" in stderr_of(COMPILED, TF_CPP_MIN_LOG_LEVEL="0")


def test_what_is_no_noise_is_written_after_all():
    code = (
        "import os, sys; from spurious.startup import quiet\n"
        "with quiet():\n"
        "    os.write(2, b'I0000 00:00:1795783853.1 8241 port.cc:153] oneDNN is on\\n')\n"
        "    os.write(2, b'E0000 00:00:1795783853.1 8241 cuda.cc:1] no card\\n')\n"
        "    print('Python says this', file=sys.stderr)\n"
        "os.write(2, b'after')\n"
    )
    assert stderr_of(code) == (
        "E0000 00:00:1795783853.1 8241 cuda.cc:1] no card\nPython says this\nafter"
    )


def test_what_was_held_back_comes_before_an_error():
    code = (
        "import os\nfrom spurious.startup import quiet\n"
        "try:\n    with quiet():\n        os.write(2, b'why\\n'); raise ImportError\n"
        "except ImportError: os.write(2, b'caught')\n"
    )
    assert stderr_of(code) == "why\ncaught"


def test_a_process_without_standard_error_can_import():
    code = (
        "import os, sys; os.close(2); sys.stderr = None\n"
        "from spurious.startup import quiet\nwith quiet(): pass\n"
    )
    assert stderr_of(code) == ""


def test_what_is_imported_already_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    before = list(sys.meta_path)
    startup.quieten()
    assert sys.meta_path == before
