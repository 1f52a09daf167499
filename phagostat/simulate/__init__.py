"""The simulator: movies with a known truth, sharing nothing with the pipeline that it judges but vocabulary."""

from phagostat.simulate.movie import SimulatedFrame, Simulation, SimulationReport, iter_frames, simulate
from phagostat.simulate.scenarios import SceneOverrides
from phagostat.simulate.spec import Mode, SimulationSpec
from phagostat.simulate.truth import Truth, TruthError, read_truth, write_truth

__all__ = [
    "Mode",
    "SceneOverrides",
    "SimulatedFrame",
    "Simulation",
    "SimulationReport",
    "SimulationSpec",
    "Truth",
    "TruthError",
    "iter_frames",
    "read_truth",
    "simulate",
    "write_truth",
]
