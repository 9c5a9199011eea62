"""What may vary: parameters, conditions, constraints, and the codec to the unit cube."""

from bbopt.space.codec import Codec
from bbopt.space.column import Column, ColumnKind, has_permanent_real
from bbopt.space.conditions import AllOf, Between, Condition, Equals, ParamValue
from bbopt.space.constraints import Constraint, Exclude, Linear, Simplex
from bbopt.space.emptiness import find_conflict, require_nonempty
from bbopt.space.parameters import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    Scale,
)
from bbopt.space.polytope import Polytope
from bbopt.space.space import Space

__all__ = [
    "AllOf",
    "Between",
    "Bool",
    "Categorical",
    "Codec",
    "Column",
    "ColumnKind",
    "Condition",
    "Constraint",
    "Equals",
    "Exclude",
    "Fixed",
    "Float",
    "Int",
    "Linear",
    "Ordinal",
    "ParamValue",
    "Parameter",
    "Polytope",
    "Scale",
    "Simplex",
    "Space",
    "find_conflict",
    "has_permanent_real",
    "require_nonempty",
]
