"""From a `kind` of params.yaml to its class, and from there to the section that it describes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, is_dataclass
from importlib import import_module
from inspect import isabstract, isclass
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any, NoReturn, cast

from pydantic import BeforeValidator, GetCoreSchemaHandler, SerializeAsAny, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from spurious.description.fields import described
from spurious.description.schema import section_of
from spurious.description.section import Entry
from spurious.errors import nearest
from spurious.kinds import GROUPS

Describe = Callable[[type, str], type[Entry]]


def class_of(group: str, kind: Any) -> type:
    """The class of a kind.

    Raises:
        ValueError: the group has no such kind.
    """
    kinds = GROUPS[group]
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"must be one of {_listed(kinds)}{nearest(kind, kinds)}")
    return cast(type, imported(kinds[kind]))


def described_class(group: str, given: str | Entry) -> Any:
    """The class of a section, or of the name of a kind that needs no field."""
    return class_of(group, given) if isinstance(given, str) else given.CLASS


def own_class(kind: str) -> type:
    """The class of an import path, looked up among what is installed, then in the current folder.

    Raises:
        ValueError: there is none, or it is no perturbation.
    """
    one, name = found(kind), kind.rpartition(".")[2]
    called = isclass(one) and any("__call__" in vars(parent) for parent in one.__mro__)
    if not (called and is_dataclass(one)):
        raise ValueError(
            f"{name} must be a dataclass whose objects are called with maps, such as an Effect"
        )
    if isabstract(one):
        lacking = sorted(cast(Any, one).__abstractmethods__)
        raise ValueError(f"{name} must define {', '.join(lacking)}")
    amplitude = getattr(one, "AMPLITUDE", None)
    if amplitude not in [None, *getattr(one, "__dataclass_fields__", ())]:
        raise ValueError(f"{name} has no field {amplitude}: its AMPLITUDE must name one")
    return cast(type, one)


OWN_BASES = {"preset": "spurious.Preset", "head": "spurious.Head", "defence": "spurious.Defence"}
"""What a class of one's own extends, by group."""


def described_by(path: str) -> tuple[str, type]:
    """The group of a class of one's own, of any group, and the class.

    Raises:
        ValueError: there is none of that import path.
    """
    one = found(path)
    for group, base in OWN_BASES.items():
        if isclass(one) and issubclass(one, imported(base)):
            return group, extending(base)(path)
    return "perturbation", own_class(path)


def extending(base: str) -> Callable[[str], type]:
    """Looks up a dataclass that extends one of this package, of the import path `base`."""

    def own(kind: str) -> type:
        one, parent, name = found(kind), imported(base), kind.rpartition(".")[2]
        if not (isclass(one) and issubclass(one, parent) and is_dataclass(one)):
            raise ValueError(f"{name} must be a dataclass that extends {base}")
        if isabstract(one):
            raise ValueError(f"{name} must define {', '.join(sorted(one.__abstractmethods__))}")
        return cast(type, one)

    return own


def found(path: str) -> Any:
    """What an import path names, looked up among what is installed, then in the current folder.

    Raises:
        ValueError: there is nothing.
    """
    module, _, name = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")):
        raise ValueError("must be the name of a module, a dot and the name of a class in it")
    one: Any = getattr(module_of(module), name, None)
    if one is None:
        public = [one for one in vars(module_of(module)) if not one.startswith("_")]
        raise ValueError(f"module {module} has no {name}{nearest(name, public)}")
    return one


def module_of(module: str) -> ModuleType:
    """A module, looked up among what is installed, then in the current folder.

    Raises:
        ValueError: there is none, or it cannot be imported.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that no file here hides what is installed
    try:
        return import_module(module)
    except Exception as error:  # whatever the module raises
        if isinstance(error, ModuleNotFoundError) and module.startswith(error.name or " "):
            raise ValueError(
                f"there is no module {module}, neither installed nor in {here}"
                f"{_nearest_module(error.name or module)}"
            ) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"module {module} cannot be imported: {reason}") from error


def _nearest_module(missing: str) -> str:
    """The module of the current folder that was perhaps meant, as a message ends."""
    *above, _ = missing.split(".")
    own = [".".join([*above, one.name]) for one in iter_modules([str(Path.cwd().joinpath(*above))])]
    return nearest(missing, own)


@dataclass(frozen=True)
class OneOf:
    """Beside a field's type: params.yaml writes a section with a `kind` of this group.

    Attributes:
        group: of `spurious.kinds`.
        names: whether a kind that needs no field may be written as its name alone; it stays one.
        own: from an import path to a class of the user's own, where a kind may be one.
        describe: how a class and its kind become a section.
    """

    group: str
    names: bool = False
    own: Callable[[str], type] | None = None
    describe: Describe = section_of

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Whatever the type: a section, or a name."""
        section = Annotated[SerializeAsAny[Entry], BeforeValidator(self.section)]
        named = Annotated[str | SerializeAsAny[Entry], BeforeValidator(self.section)]
        return handler.generate_schema(named if self.names else section)

    def section(self, given: Any) -> Any:
        """The section, or the name.

        Raises:
            ValueError: it is neither.
            ValidationError: what is wrong in it, with the key.
        """
        if isinstance(given, Entry):
            return given
        if self.names and isinstance(given, str):
            return self._named(given)
        if not isinstance(given, dict):
            raise ValueError(f"must be a mapping with a kind, which {self._allowed()}")
        if "kind" not in given:
            _refuse("missing", given)
        try:
            section = self.describe(self._class(given["kind"]), given["kind"])
        except ValueError as error:
            _refuse(PydanticCustomError("kind", "{why}", {"why": str(error)}), given["kind"])
        return section.model_validate(given)

    def _class(self, kind: Any) -> type:
        if self.own and isinstance(kind, str) and "." in kind:
            return self.own(kind)
        if not isinstance(kind, str) or kind not in self._kinds():
            raise ValueError(self._allowed() + nearest(kind, self._kinds()))
        return class_of(self.group, kind)

    def _named(self, given: str) -> str:
        if given not in GROUPS[self.group] or not self._is_complete(given):
            raise ValueError(self._allowed() + nearest(given, self._kinds()))
        return given

    def _is_complete(self, kind: str) -> bool:
        """Whether nothing but the kind must be said."""
        return all(one.default is not MISSING for one in described(class_of(self.group, kind)))

    def _kinds(self) -> list[str]:
        return list(GROUPS[self.group])

    def _allowed(self) -> str:
        kinds = self._kinds()
        if self.names:
            alone = [kind for kind in kinds if self._is_complete(kind)]
            others = [kind for kind in kinds if kind not in alone]
            more = f", or a section of kind {_listed(others)}" if others else ""
            return f"must be one of {_listed(alone)}{more}"
        more = ", or the import path of a class of your own" if self.own else ""
        return f"must be one of {_listed(kinds)}{more}"


@dataclass(frozen=True)
class MadeBy:
    """Beside a field's type: its section is made by a function, imported when it is needed.

    Attributes:
        maker: import path of a function without arguments that gives the section's class.
    """

    maker: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Whatever the type, which is what all such sections have in common."""
        section = Annotated[SerializeAsAny[source], BeforeValidator(self._section)]
        return handler.generate_schema(section)

    def _section(self, given: Any) -> Any:
        made = imported(self.maker)()
        return given if isinstance(given, made) else made.model_validate(given)


def imported(path: str) -> Any:
    """What an import path of this package names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _listed(kinds: Any) -> str:
    return ", ".join(repr(kind) for kind in kinds)


def _refuse(problem: Any, given: Any) -> NoReturn:
    """A problem of the key `kind`."""
    line: InitErrorDetails = {"type": problem, "loc": ("kind",), "input": given}
    raise ValidationError.from_exception_data("kind", [line]) from None
