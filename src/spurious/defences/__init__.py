"""Networks that keep their answer: what makes them, and what that costs."""
