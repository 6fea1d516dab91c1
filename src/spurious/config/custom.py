"""Entries whose `kind` is the import path of a class: perturbations that are not of this package.

The class is a dataclass; its fields are those of the entry. What a field may hold is what its type
says, and what stands beside the type in `Annotated`: limits (`Within`), and the quantity as which
params.yaml writes it (`Budget`, `Density`, `Length`, `Angle`), of which the class gets the number.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from importlib import import_module
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import InitErrorDetails, PydanticCustomError

from spurious.config.attacks import OnPosterior
from spurious.config.quantities import Section
from spurious.config.systematics import Matchable

SURROUNDINGS = ("posterior", "box_size", "seed")
"""Fields that no entry has: they are filled with what the maps and the run say."""


def is_custom(kind: Any) -> bool:
    """Whether a `kind` is an import path."""
    return isinstance(kind, str) and "." in kind


def found(kind: str) -> type:
    """The class of an import path, looked up among what is installed, then in the current folder.

    Raises:
        ValueError: there is none, or it is no perturbation.
    """
    module, _, name = kind.rpartition(".")
    if not all(part.isidentifier() for part in kind.split(".")):
        raise ValueError("must be the name of a module, a dot and the name of a class in it")
    one: Any = getattr(_imported(module), name, None)
    if one is None:
        raise ValueError(f"module {module} has no {name}")
    called = isclass(one) and any("__call__" in vars(parent) for parent in one.__mro__)
    if not (called and is_dataclass(one)):
        raise ValueError(
            f"{name} must be a dataclass whose objects are called with maps, such as an Effect"
        )
    if isabstract(one):
        lacking = sorted(cast(Any, one).__abstractmethods__)
        raise ValueError(f"{name} must define {', '.join(lacking)}")
    amplitude = getattr(one, "AMPLITUDE", None)
    if amplitude not in [None, *(field.name for field in fields(one))]:
        raise ValueError(f"{name} has no field {amplitude}: its AMPLITUDE must name one")
    return cast(type, one)


def _imported(module: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that no file here hides what is installed
    try:
        return import_module(module)
    except Exception as error:  # whatever the module raises
        if isinstance(error, ModuleNotFoundError) and module.startswith(error.name or " "):
            raise ValueError(
                f"there is no module {module}, neither installed nor in {here}"
            ) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"module {module} cannot be imported: {reason}") from error


@lru_cache(maxsize=64)
def section_of(one: Any, kind: str) -> type[Section]:
    """The section that an entry of a class must be: one field for each of the class.

    Raises:
        ValueError: a field's type says nothing that can be checked.
    """
    described: dict[str, Any] = {"kind": (Literal[kind], ...)}
    try:
        hints = get_type_hints(one, include_extras=True)
        for field in fields(one):
            if field.init and field.name not in SURROUNDINGS:
                described[field.name] = _described(field, hints[field.name], one)
        attack = any(field.name == "posterior" for field in fields(one))
        base = OnPosterior if attack else Section
        return create_model(one.__name__, __base__=base, __doc__=one.__doc__, **described)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{one.__name__} has a field that cannot be checked: {reason}") from error


def _described(field: Field[Any], hint: Any, one: type) -> tuple[Any, Any]:
    """Type and default of a section's field; a quantity left out is None, the class knows its own.

    Without either default of the class there is none, and the field must be given.
    """
    written, is_quantity = _written(hint)
    if field.name == getattr(one, "AMPLITUDE", None):
        written = cast(Any, Matchable)[written]
    if field.default is MISSING and field.default_factory is MISSING:
        return written, ...
    if is_quantity:
        return written | None, None
    if field.default_factory is not MISSING:
        return written, field.default_factory()
    return written, field.default


def _written(hint: Any) -> tuple[Any, bool]:
    """How params.yaml writes a field: as its type, or as the quantity that stands beside it."""
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for mark in marks:
        if isclass(mark) and issubclass(mark, Section):
            rest = tuple(other for other in marks if other is not mark)
            return (Annotated[(mark, *rest)] if rest else mark), True
    return hint, isclass(plain) and issubclass(plain, Section)


def _validated(given: Any) -> Any:
    if isinstance(given, Section):
        return given
    kind = given["kind"]
    try:
        section = section_of(found(kind), kind)
    except ValueError as error:
        problem = PydanticCustomError("custom", "{problem}", {"problem": str(error)})
        line: InitErrorDetails = {"type": problem, "loc": ("kind",), "input": kind}
        raise ValidationError.from_exception_data("custom", [line]) from None
    return section.model_validate(given)


Custom = Annotated[SerializeAsAny[Section], BeforeValidator(_validated)]
