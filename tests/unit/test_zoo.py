"""`check` and `diagnose` tried on implementations by many hands (tests/implementations)."""

import importlib
import re

import numpy as np
import pytest
from implementations.right import RIGHT
from implementations.wrong import WRONG

from rope_xp.testing import check, diagnose

NAMESPACES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}


def rows(implementations):
    """NumPy's need no mark: they run where no library is chosen."""
    marks = {"numpy": ()}
    return [
        pytest.param(
            each, id=each.name, marks=marks.get(each.library, pytest.mark.backend(each.library))
        )
        for each in implementations
    ]


def namespace(implementation):
    return importlib.import_module(NAMESPACES[implementation.library])


def reason_in(message, rope):
    """The message without what it should be, where it is wrong, and both numbers."""
    message = message.replace(repr(rope), "")
    message = re.sub(r"x of shape \([^)]*\)|, that of the head's number", "", message)
    return re.sub(r": row \d+, head \d+, .*?, bound [\d.e+-]*\d", "", message, flags=re.DOTALL)


def test_reason():
    message = "`fn` is not X: the law. x: row 1, head 0, pair 3: from 1.2 it computes 0.5, bound 1e-05. Why"
    assert reason_in(message, "Y") == "`fn` is not X: the law. x. Why"


@pytest.mark.parametrize("each", rows(RIGHT))
def test_right_implementations_pass(each):
    check(each.make(), each.rope, xp=namespace(each))


@pytest.mark.parametrize("each", rows(WRONG))
def test_wrong_implementations_are_refused_with_the_reason(each):
    with pytest.raises(AssertionError) as raised:
        check(each.make(), each.rope, xp=namespace(each))
    reason = reason_in(str(raised.value), each.rope).lower()
    assert any(word.lower() in reason for word in each.words), (each.words, str(raised.value))


@pytest.mark.parametrize("each", rows(RIGHT))
def test_right_implementations_are_diagnosed(each):
    found, rope = diagnose(each.make(), each.rope.head_dim, xp=namespace(each)), each.rope
    if found.rope == rope:
        return
    # Another name for the same: a part of a schedule, or frequencies that a schedule shares.
    assert (found.layout, found.output_layout) == (rope.layout, None)
    assert (found.rotary_dim, found.rotary_start) == (rope.rotary_dim, rope.rotary_start)
    assert found.precision in ("exact", rope.precision)
    for each_rope in (found.rope, rope):
        inv_freq, factor, _ = each_rope.frequencies()
        np.testing.assert_allclose(
            found.inv_freq * found.direction, inv_freq, rtol=1e-6, atol=1e-12
        )
        assert found.attention_factor == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("each", rows([w for w in WRONG if w.known]))
def test_wrong_implementations_are_diagnosed(each):
    found = diagnose(each.make(), each.rope.head_dim, xp=namespace(each))
    read = {name: getattr(found, name) for name in each.known}
    numbers = {k: pytest.approx(v) if isinstance(v, float) else v for k, v in each.known.items()}
    assert read == numbers


@pytest.mark.parametrize("each", rows(WRONG))
def test_wrong_implementations_have_a_diagnosis(each):
    """It raises nothing, and prints."""
    assert str(diagnose(each.make(), each.rope.head_dim, xp=namespace(each)))
