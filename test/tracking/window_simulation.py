"""The simulated windows of the package, under the name by which the tests here know them."""

from da3_ros.evaluation.simulated_windows import *  # noqa: F403
from da3_ros.evaluation.simulated_windows import K_SIMULATED, VIEW_SIMULATED  # noqa: F401
