"""The command line: `spurious STAGE` reads params.yaml and calls one stage.

Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spurious.commands.explained import explained, installed, understood
from spurious.commands.options import (
    FILE,
    PARAMS,
    SCALE,
    maps_of,
    own_model,
    refuse_beside,
    without_model,
)

if TYPE_CHECKING:
    from spurious.config import Config


def _say_version(context: click.Context, asked: bool) -> None:
    if not asked:
        return
    from spurious.commands.version import version

    click.echo(f"spurious {version()}")
    context.exit()


class Commands(click.Group):
    """A group that refuses what it does not know in one line, as its commands do."""

    def make_context(self, *given: Any, **options: Any) -> click.Context:
        """Read the group's own options."""
        with understood():
            return super().make_context(*given, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Read a command's options, and run it."""
        with understood():
            return super().invoke(ctx)


@click.group("spurious", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, asked: _say_version(context, asked),
    help="Show the version, in a clone with its commit, and exit.",
)
def main() -> None:
    """Measure how easily a network that infers cosmology from maps is fooled.

    Each command is one stage of the pipeline in dvc.yaml and reads params.yaml in the current
    folder. `dvc repro` runs them all, in this order:

    code, verify, simulate, train (once for each posterior), assess, attack (once for each group),
    audit, search, compare, defend, report. `tune`, `attack --model` and `audit --model` are not
    part of it. `init` writes a params.yaml, `check` validates it, `list` says what it may name, and
    `doctor` checks the installation.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may lack the sign: no stage fails by it
            stream.reconfigure(errors="backslashreplace")


def stage(*, scaled: bool = True) -> Callable[[Callable[..., None]], click.Command]:
    """Make a stage's function a command that gets the validated configuration."""

    def decorate(function: Callable[..., None]) -> click.Command:
        def call(params: Path, scale: str | None = None, **options: Any) -> None:
            with explained():
                from spurious.params import load
                from spurious.processes import collect_seldom

                collect_seldom()

                function(load(params, scale), **options)

        call.__doc__ = function.__doc__
        call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        command = PARAMS(SCALE(call) if scaled else call)
        return main.command(function.__name__.strip("_"))(command)

    return decorate


@stage()
def check(config: Config) -> None:
    """Validate params.yaml, every scale of it, and do nothing else."""
    from spurious.simulation.design import nodes

    simulations = config.simulation.simulations
    cosmologies = len(nodes(config.design, simulations, config.seed, config.background))
    click.echo(f"valid; {config.scale}: {simulations} simulations, {cosmologies} cosmologies")


@main.command()
@PARAMS
def init(params: Path) -> None:
    """Write a params.yaml with comments; a file that exists is kept."""
    with explained():
        from spurious.commands import init as module

        module.write(params)


@main.command()
def doctor() -> None:
    """Check the installation and what is stored here; say what to do.

    The status is 1 if something needed is broken.
    """
    with installed():  # all else may be what is broken
        from spurious.commands import doctor as module

        sys.exit(module.examine())


@main.command("list")
@click.argument("kind", required=False)
def list_kinds(kind: str | None) -> None:
    """Print what params.yaml may name, or the fields of one KIND.

    That is every kind of attack, objective, constraint, defence and goal. KIND may be the import
    path of a class of your own, such as my_effects.Vignetting.
    """
    with explained():
        from spurious import listing

        click.echo(listing.kinds() if kind is None else listing.kind(kind))


@stage(scaled=False)
def code(config: Config) -> None:
    """Write data/code/STAGE.txt: what each stage compiles.

    `dvc repro` reruns the stages whose list changes. Like all stages it checks params.yaml first.
    All others come after it, so `dvc repro` runs none with an invalid file.
    """
    from spurious.pipeline.code import write

    write()


@stage(scaled=False)
def verify(config: Config) -> None:
    """Remake FlowPM's own reference maps; stop if they differ."""
    from spurious.stages import verify as module

    module.run(config)


@stage()
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Local processes of one thread each, in place of execution.workers in params.yaml; "
    "the maps do not depend on it.",
)
@click.option(
    "--preview",
    is_flag=False,
    flag_value=6,
    metavar="[N]",
    type=click.IntRange(1, 30),
    help="Only simulate N maps [6] spread over the design, write results/SCALE/preview.png and "
    "say how long all of them would take.",
)
@click.option(
    "--only",
    metavar="INDEX",
    type=click.IntRange(min=0),
    help="Only make simulation INDEX again, counted from 0, and compare its maps with the MD5 in "
    "results/SCALE/maps.md5; writes nothing.",
)
def simulate(config: Config, workers: int | None, preview: int | None, only: int | None) -> None:
    """Run the particle-mesh simulations; write data/SCALE/maps.h5.

    If it is killed, run it again: it continues after the last finished shard.
    """
    from spurious.stages import simulate as module

    if only is not None:
        refuse_beside("--only", {"--preview": preview, "--workers": workers})
        module.only(config, only)
    elif preview is None:
        module.run(config, workers)
    else:
        module.preview(config, preview, workers)


@stage()
@click.argument("maps", type=FILE)
@click.option("--parameters", type=FILE, help="Of a NumPy file: a table, a row a simulation.")
@click.option(
    "--column",
    "columns",
    type=(str, click.IntRange(min=0)),
    multiple=True,
    metavar="NAME NUMBER",
    help="A parameter and its column in that table, counted from 0; once for each.  [default: "
    "omega_m 0, sigma_8 1]",
)
@click.option("--box-size", type=float, help="Side of its maps, Mpc/h.  [default: 25]")
@click.option("--unit", help="Of its pixels.")
@click.option(
    "--mean",
    type=click.FloatRange(min=0, min_open=True),
    help="Mean of all pixels, to which one factor brings all maps, such as the 64 counts for which "
    "the ranges of systematics are meant.",
)
def use(config: Config, **given: Any) -> None:
    """Use maps of your own in the place of simulations.

    Writes data/SCALE/maps.h5. MAPS is a data set of this package (.h5), or an array of maps (.npy)
    such as those of CAMELS, of any size and with any parameters. Then `train` and all stages after
    it, as for simulations.
    """
    from spurious.commands.use import use as write

    write(config, **given)


@stage()
@click.argument("name", required=False)
@click.option("--posterior", metavar="NAME", help="The same as NAME; how dvc.yaml gives it.")
def train(config: Config, name: str | None, posterior: str | None) -> None:
    """Train the entry NAME of `posteriors`; write models/SCALE/NAME.

    Also its test metrics, its calibration and their figures, below results/SCALE/posteriors/. If
    it is killed, run it again: it continues after the last finished epoch.
    """
    from spurious.errors import UserError
    from spurious.stages import train as module

    if (name is None) == (posterior is None):
        raise UserError(f"train: give one NAME of {', '.join(config.posteriors)}")
    module.run(config, name or posterior or "")


@stage()
def assess(config: Config) -> None:
    """Compare the posteriors: errors, calibration, what P(k) tells.

    Ensembles and the Fisher forecast are made here; all of `run.posteriors` must be trained.
    """
    from spurious.stages import assess as module

    module.run(config)


@stage()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--group", metavar="NAME", help="One NAME more; how dvc.yaml gives it.")
@own_model
def attack(
    config: Config,
    names: tuple[str, ...],
    group: str | None,
    model: str | None,
    **own: Any,
) -> None:
    """Perturb the test maps as params.yaml says; measure the damage.

    Each NAME is a group of attacks or a single one; `dvc repro` runs the groups of `run.attacks`.

    With --model and --maps, the table of damage to a model of your own: every NAME given, or the
    first group of `run.attacks`. docs/own_model.md says what the model must give.
    """
    from spurious.errors import UserError
    from spurious.stages import attack as module

    names += () if group is None else (group,)
    if model is None:
        without_model(own)
        if not names:
            raise UserError(
                f"attack: give a NAME, such as the group {config.run.attacks[0]}, or --model and "
                "--maps for a model of your own"
            )
        module.run(config, names)
        return
    from spurious import own_model as table

    maps, scaling = maps_of(model, own), own["scaling"]
    table.run(config, model, maps, scaling, own["out"], names, own["imports"])


@stage()
@own_model
def audit(config: Config, model: str | None, **own: Any) -> None:
    """Measure damage against budget; check when not to believe it.

    Failed checks are printed and recorded; they do not stop the pipeline. With --model and
    --maps, the same for a model of your own.
    """
    if model is None:
        from spurious.stages import audit as module

        without_model(own)
        module.run(config)
        return
    from spurious import own_model as other

    maps, scaling = maps_of(model, own), own["scaling"]
    other.audit(config, model, maps, scaling, own["out"], own["imports"])


@stage()
@click.option(
    "--against",
    type=FILE,
    metavar="FILE",
    help="Only print how many numbers of results/SCALE/attacks.csv lie in the intervals of FILE, "
    "the attacks.csv of another run.",
)
def compare(config: Config, against: Path | None) -> None:
    """Compare perturbations and winners of the search; who notices.

    Writes one table of their damage, what each detector says of them, and the fronts.
    """
    from spurious.stages import compare as module

    if against is None:
        module.run(config)
    else:
        module.against(config, against)


@stage()
@click.option(
    "--storage",
    metavar="URL",
    help="Where the studies are: a SQLite file, postgresql://..., mysql://... or "
    "grpc://HOST:PORT.  [default: $SPURIOUS_STORAGE, or mlruns/optuna.db]",
)
@click.option(
    "--worker", is_flag=True, help="Only work on the studies, beside others; write nothing else."
)
def search(config: Config, storage: str | None, worker: bool) -> None:
    """Search for the worst systematic of each family within fences.

    If it is killed, run it again: it continues after the last finished trial. Any number of
    workers may share a storage.
    """
    from spurious.stages import search as module

    module.run(config, storage, worker)


@stage()
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="In place of tune.trials in params.yaml; trials of earlier calls count.",
)
def tune(config: Config, trials: int | None) -> None:
    """Search for better architectures and training settings.

    Prints the best as an entry of `posteriors`. Not part of `dvc repro`, unless `run.tune` in
    params.yaml names the scale. If it is killed, run it again: it continues after the last finished
    epoch.
    """
    from spurious.stages import tune as module

    module.run(config, trials)


@stage()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def defend(config: Config, names: tuple[str, ...]) -> None:
    """Compare defences: information, calibration, adaptive attacks.

    Each NAME is a posterior or an ensemble that is trained already; by default those of
    `run.defences`. The target of `run` is the undefended posterior beside them. Results of
    given names are called all_defences and leave those of `dvc repro` alone.
    """
    from spurious.stages import defend as module

    module.run(config, names)


@stage()
def report(config: Config) -> None:
    """Write results/SCALE/report.html, one file, and its figures."""
    from spurious.stages import report as module

    module.run(config)


if __name__ == "__main__":
    main()
