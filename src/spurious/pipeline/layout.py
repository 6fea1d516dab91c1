"""Where each stage's files are: the same names as in dvc.yaml, relative to the project's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spurious import shipped
from spurious.errors import UserError
from spurious.files import inside

REFERENCE = Path("data/reference/flowpm.h5")
VERIFY_TABLE = Path("data/verify.csv")
VERIFY_METRICS = Path("results/verify.json")
STUDY = Path("mlruns/optuna.db")


def reference_maps() -> Path:
    """FlowPM's own maps: those that DVC fetched; in a folder without them, those of the wheel.

    Raises:
        UserError: there are neither.
    """
    found = REFERENCE if REFERENCE.is_file() else shipped.reference()
    if not found.is_file():
        raise UserError(f"{REFERENCE} is missing: fetch it with `dvc pull data.dvc`")
    return found


@dataclass(frozen=True)
class Layout:
    """Files of one scale.

    Names from params.yaml were checked when it was read; as a second barrier, a path that would
    leave the folder of its scale raises `UserError`.
    """

    scale: str

    @property
    def maps(self) -> Path:
        """The simulated data set."""
        return inside(self._folder("data"), "maps.h5")

    @property
    def manifest(self) -> Path:
        """The MD5 of each simulated map."""
        return self.result("maps.md5")

    @property
    def shards(self) -> Path:
        """Finished shards of a suite that is not complete."""
        return self._folder("data/shards")

    def checkpoints(self, posterior: str) -> Path:
        """Epoch checkpoints of a training that is not finished."""
        return inside(self._folder("data/checkpoints"), posterior)

    def posterior(self, name: str, training: int = 1) -> Path:
        """One of the trainings of a posterior, standardiser included."""
        return inside(self._folder("models"), f"{name}/{training}.keras")

    def attacked(self, group: str, attack: str, training: int = 1) -> Path:
        """The test maps as changed by one perturbation on one training of the target."""
        name = attack if training == 1 else f"{attack}.{training}"
        return inside(self._folder("data"), f"attacks/{group}/{name}.h5")

    def row(self, group: str, attack: str) -> Path:
        """The damage that one perturbation did, as one row."""
        return self.result(f"attacks/{group}/{attack}.json")

    def result(self, name: str) -> Path:
        """A table, a metrics file or a figure."""
        return inside(self._folder("results"), name)

    @property
    def report(self) -> Path:
        """The report, one self-contained HTML file."""
        return self.result("report.html")

    def _folder(self, above: str) -> Path:
        return inside(Path(above), self.scale)
