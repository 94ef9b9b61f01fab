"""NumPy's rotation beside MLX's own kernel, on the CPU: for information."""

import numpy as np
import pytest

from benchmarks import measure, peers
from benchmarks.peers import PROBLEMS
from rope_xp import rotate


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_mlx(compare, need, timed, problem, layout):
    case = f"NumPy, {layout}"
    mx = need(f"{case}, beside mlx.core.fast.rope", "mlx.core")
    problem = problem if timed else problem.small()
    x, *_ = problem.arrays()
    cos, sin = problem.tables(precision="float32")
    theirs = mx.array(x)
    mx.eval(theirs)

    def peer():
        y = mx.fast.rope(
            theirs,
            2 * problem.n_pairs,
            traditional=layout == "interleaved",
            base=10000.0,
            scale=1.0,
            offset=0,
        )
        mx.eval(y)
        return y

    compare(
        case,
        "mlx.core.fast.rope",
        ours=lambda: rotate(x, cos, sin, layout=layout),
        peer=peer,
        problem=problem,
        passes=2,
        numpy=np.asarray,
        # Its frequencies are powers in float32: an angle is off by a few eps of itself.
        slack=4 * problem.shape[-2] * measure.EPS["float32"],
    )
