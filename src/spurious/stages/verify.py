"""Stage `verify`: the engine against FlowPM's own maps; beyond the tolerance the pipeline stops."""

from __future__ import annotations
