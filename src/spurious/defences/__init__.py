"""Networks that keep their answer, and what that costs: see docs/defences.md."""
