"""How a rotation is evaluated: one file per kernel."""
