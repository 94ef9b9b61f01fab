"""Implementations of RoPE by many hands, right and wrong, that `rope_xp.testing` is judged by."""
