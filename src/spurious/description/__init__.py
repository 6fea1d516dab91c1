"""What a class says of its own fields, and what follows from that.

A perturbation, an objective, a constraint is one frozen dataclass. Its annotations carry what its
users must know: limits, unit, meaning, the range in which a search may move a field.

```python
@dataclass(frozen=True)
class Beam(Effect):
    mismatch: Annotated[Any, Within(-0.5, 1), Searched(-0.5, 1.0), Doc("relative error")]
    fwhm: Annotated[Any, Length, Within(0, 50), Held(4.0, "linear"), Doc("assumed width")]
    box_size: float  # filled in, see `fields.FILLED`
```

From that alone come the section of params.yaml with its error messages (`schema`), the family of a
search (`families`) and the reference tables (`tables`). `lookup` finds the class of a `kind`.
"""
