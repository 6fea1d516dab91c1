"""What each stage runs: the modules that its imports reach, and a hash of what each compiles to.

`spurious code`, the first stage of dvc.yaml, writes one list a stage, and every other stage depends
on its own: an edit reruns the stages whose list it changes, and no other.

- A list has the stage's module, the part of `spurious.cli` that calls it, and all modules of this
  package that these import, at the top or inside a function, with the packages they lie in.
  What stands under `if TYPE_CHECKING` never runs and is left out.
- The hash is that of the syntax tree, written out again: comments, layout and docstrings are not in
  it; a constant, a default, an annotation and the text of a message are. Releases of Python may
  write a tree out differently.
- Libraries that compute stand at the end, with the versions installed.

Imports are read, not followed at run time, so a module must be imported by its name: the names that
`spurious/__init__.py` lends its users (`from spurious import read_maps`) are not looked up. Classes
that params.yaml names by their `kind` (`spurious.kinds`) count as imported by what makes objects of
them; a stage that only checks the file does not depend on what they do.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib import metadata
from importlib.util import resolve_name
from pathlib import Path
from typing import TypeGuard

from spurious.files import replacing
from spurious.kinds import GROUPS, SYSTEMATICS
from spurious.pipeline.outputs import replaced_together

FOLDER = Path("data/code")
LIBRARIES = (
    "camb",
    "flowpm",
    "keras",
    "numpy",
    "optuna",
    "scipy",
    "tensorflow",
    "tensorflow_probability",
)
"""Import names of the libraries whose version may change a result."""

MAKERS = {
    "spurious.perturbations.build": ("perturbation", "objective", "constraint"),
    "spurious.defences.build": ("defence", "constraint"),
}
"""Modules that make objects of the classes of `spurious.kinds`, and of which groups."""

FAMILIES = "spurious.search.families"
"""The module that makes objects of the systematics alone."""

_CLI = "spurious.cli"
_STAGES = "spurious.stages"
_OWN_MODEL = "spurious.own_model"


class Module:
    """What one module compiles to.

    Args:
        name: dotted.
        body: its statements that run (`running`).
        is_package: whether names relative to it are those of its own submodules.
    """

    def __init__(self, name: str, body: list[ast.stmt], is_package: bool = False) -> None:
        self.name, self.body, self.is_package = name, body, is_package

    @cached_property
    def digest(self) -> str:
        """Of the syntax tree, written out again."""
        return _hash(ast.unparse(ast.Module(self.body, type_ignores=[])))

    @cached_property
    def imports(self) -> set[str]:
        """Dotted names that its imports ask for: modules, and what else they may hold."""
        return set(self._named())

    def _named(self) -> Iterator[str]:
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        for node in ast.walk(ast.Module(self.body, type_ignores=[])):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{module}.{alias.name}" for alias in node.names)
        for group in MAKERS.get(self.name, ()):
            yield from GROUPS[group].values()
        if self.name == FAMILIES:
            yield from (GROUPS["perturbation"][kind] for kind in SYSTEMATICS)


class Package:
    """The modules of this package as they lie in its folder, each read once.

    Args:
        folder: that of the package; by default the one that runs.
    """

    def __init__(self, folder: Path = Path(__file__).parents[1]) -> None:
        self.folder = folder
        self._module = cache(self._read)
        self._parts = cache(self._packages)

    @cached_property
    def stages(self) -> list[str]:
        """The commands of the command line that have a module of their name in `stages`."""
        names = [node.name for node in self._module(_CLI).body if _is_command(node)]
        return [name for name in names if self._path(f"{_STAGES}.{name}")]

    def modules(self, stage: str) -> list[Module]:
        """Every module that the stage may import, by name.

        Raises:
            ValueError: there is no such stage.
        """
        if stage not in self.stages:
            raise ValueError(f"stage = {stage!r}: must be one of {', '.join(self.stages)}")
        own = f"{_STAGES}.{stage}"
        caller = self._command_line(stage)
        # A command may import another stage's module, or what serves users' own models.
        beside = {n for n in self._imported(caller) if n.startswith((f"{_STAGES}.", _OWN_MODEL))}
        found, waiting = {_CLI: caller}, {own, *self._imported(caller) - beside}
        while waiting:
            module = self._module(waiting.pop())
            found[module.name] = module
            waiting |= self._imported(module) - found.keys()
        return [found[name] for name in sorted(found)]

    def listing(self, stage: str) -> str:
        """One line a module, its name and hash; then one a library, its name and version."""
        modules = self.modules(stage)
        lines = [f"{module.name} {module.digest}" for module in modules]
        used = {name.split(".")[0] for module in modules for name in module.imports}
        versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES if name in used]
        return "\n".join([*lines, *versions, ""])

    def _command_line(self, stage: str) -> Module:
        """The module `cli` without the commands of other stages."""
        body = self._module(_CLI).body
        return Module(_CLI, [n for n in body if not _is_command(n) or n.name == stage])

    def _imported(self, module: Module) -> set[str]:
        """Modules of this package that a module imports, with the packages they lie in."""
        return {part for name in module.imports for part in self._parts(name)}

    def _packages(self, name: str) -> list[str]:
        """`a`, `a.b` and `a.b.c` of `a.b.c`, as far as they are modules of this package."""
        steps = name.split(".")
        parts = [".".join(steps[: i + 1]) for i in range(len(steps))]
        return [part for part in parts if self._path(part)]

    def _read(self, name: str) -> Module:
        path = self._path(name)
        if path is None:
            raise ModuleNotFoundError(f"{name} is not in {self.folder}")
        return Module(name, running(path.read_text(encoding="utf-8")), path.name == "__init__.py")

    def _path(self, name: str) -> Path | None:
        top, *parts = name.split(".")
        place = self.folder.joinpath(*parts)
        paths = (place.with_name(f"{place.name}.py"), place / "__init__.py")
        return next((p for p in paths if p.is_file()), None) if top == "spurious" else None


def fingerprint(stage: str, files: Iterable[Path] = ()) -> str:
    """A hash of all that `stage` runs, 16 hexadecimal digits.

    Args:
        stage: its name on the command line.
        files: Python files beside this package that it runs too, such as the module of a
            perturbation of one's own.

    Raises:
        ValueError: there is no such stage.
    """
    others = [Module("", running(path.read_text(encoding="utf-8"))).digest for path in files]
    return _hash("\n".join([_this_package().listing(stage), *others]))


def write(folder: Path = FOLDER) -> None:
    """Write the list of every stage to `folder`/STAGE.txt."""
    package = Package()
    with replaced_together("code", [folder]) as out:
        for stage in package.stages:
            with replacing(out.new(folder / f"{stage}.txt")) as temporary:
                temporary.write_text(package.listing(stage))


@cache
def _this_package() -> Package:
    return Package()


class _Running(ast.NodeTransformer):
    """Drops what is written and never runs: docstrings, and what is there for type checkers."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node


def running(text: str) -> list[ast.stmt]:
    """The statements of a module's text, without docstrings and what is there for type checkers."""
    tree: ast.Module = _Running().visit(ast.parse(text))
    return tree.body


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_command(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    """Whether `cli` makes this function a command: `@stage(...)` or `@main.command(...)`."""
    if not isinstance(node, ast.FunctionDef):
        return False
    calls = [made.func for made in node.decorator_list if isinstance(made, ast.Call)]
    return any(ast.unparse(call) in ("stage", "main.command") for call in calls)
