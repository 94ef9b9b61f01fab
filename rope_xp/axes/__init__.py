r"""Which position axis drives which pair: several axes as one matrix of frequencies.

With one axis the angle of pair i is :math:`m\theta_i`. With several it is
:math:`\sum_a m_a \theta_{a,i}`: again a linear map, and a scheme makes its matrix (n_axes, n_pairs)
from the frequencies of the schedule. In most schemes one axis drives each pair, so each column of the
matrix has one entry; `axis_of_pair` says which. A scheme of your own needs what `Axes` lists.

The axes are those of the positions, in their order: (row, column), or (time, row, column).
"""

from rope_xp._exports import set_public_module
from rope_xp.axes._axial import Axial
from rope_xp.axes._base import Axes
from rope_xp.axes._directions import Directions, golden_directions
from rope_xp.axes._sections import AxisPerPair, InterleavedSections, Sections

__all__ = [
    "Axes",
    "Axial",
    "AxisPerPair",
    "Directions",
    "InterleavedSections",
    "Sections",
    "golden_directions",
]

set_public_module(__name__)
