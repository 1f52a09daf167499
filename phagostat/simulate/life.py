"""How cells move and what becomes of the aggregates they meet, frame by frame, on the glass.

Everything here is positions and events, no pixels; lengths are native px, vectors are (y, x), time is frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.ranges import SceneParameters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
SPREAD, THICK, ROUND = 0, 1, 2
N_ANGLES = 2048
N_HORNS = 5
_MODES = np.arange(2, 40)
_DIRECTIONS = np.linspace(-np.pi, np.pi, N_ANGLES, endpoint=False)
_REACH = 0.8  # a cell covers what lies within this fraction of its radius
_MEALS_AT_ONCE = 2
_PER_AXIS = np.sqrt(2 / np.pi)  # sd per axis of a velocity whose mean length is 1


@dataclass(frozen=True)
class Horns:
    """Pointed protrusions of C cells: (C, N_HORNS) direction, length (of the radius), width (rad), and their change."""

    direction: Floats
    length: Floats
    width: Floats
    turn: Floats
    phase: Floats
    rate: Floats

    def outline(self, cell: int, frame: int) -> Floats:
        """Give what the protrusions add to the radius in every direction."""
        middle = self.direction[cell] + self.turn[cell] * frame
        away = (_DIRECTIONS[:, None] - middle + np.pi) % (2 * np.pi) - np.pi
        length = self.length[cell] * np.maximum(np.sin(self.phase[cell] + self.rate[cell] * frame), 0.0)
        return np.asarray(np.exp(-(np.abs(away / self.width[cell]) ** 1.3)) @ length)


@dataclass
class Cells:
    """All cells of a scene (C cells, F frames).

    Parameters
    ----------
    position
        (F, C, 2) centres on the glass.
    radius
        (C,) mean radii.
    kind
        (C,) SPREAD, THICK or ROUND.
    death
        (C,) first frame in which the cell is dead, or NEVER.
    amplitude, phase, rate
        (C, modes) of the outline's Fourier series and its change per frame.
    horns
        Their protrusions.
    seed
        (C,) seeds of the cells' textures.
    outlines
        (C, N_ANGLES) outlines of real cells, which keep their shape; None for cells that are drawn.
    """

    position: Floats
    radius: Floats
    kind: Ints
    death: Ints
    amplitude: Floats
    phase: Floats
    rate: Floats
    horns: Horns
    seed: Ints
    outlines: Floats | None = None

    def size(self, cell: int, frame: int) -> float:
        """Give the factor on the radius: a dying cell rounds up within a few frames."""
        age = frame - self.death[cell] if self.death[cell] != NEVER else -1
        return 1.0 if age < 0 else float(0.5 + 0.5 * np.exp(-(age + 1) / 3.0))

    def outline(self, cell: int, frame: int) -> Floats:
        """Give the radius in ``N_ANGLES`` directions from -pi, as ``arctan2(dy, dx)`` counts them."""
        size = self.size(cell, frame)
        if self.outlines is not None:
            return np.asarray(self.outlines[cell] * size)
        spectrum = np.zeros(N_ANGLES // 2 + 1, dtype=np.complex128)
        spectrum[_MODES] = (
            self.amplitude[cell] * np.exp(1j * (self.phase[cell] + self.rate[cell] * frame)) * N_ANGLES / 2
        )
        wave = np.fft.irfft(spectrum, N_ANGLES) + self.horns.outline(cell, frame)
        wave *= 2 * size - 1  # a rounded cell is round
        return np.asarray(self.radius[cell] * size * np.clip(1.0 + wave, 0.35, 1.9))

    def is_alive(self, cell: int, frame: int) -> bool:
        """Whether the cell lives in ``frame``."""
        return bool(frame < self.death[cell])


@dataclass
class Elements:
    """The pieces that aggregates are made of (B pieces): Gaussian blobs, or pieces of real cut-outs.

    Parameters
    ----------
    aggregate
        (B,) the aggregate that each belongs to.
    offset
        (B, 2) position relative to the aggregate's anchor.
    sigma
        (B,) sigma of a blob.
    amplitude
        (B,) peak brightness in counts.
    captured
        (B,) frame from which the piece is inside a cell, or NEVER.
    patches
        Pixels of the pieces of real cut-outs; None for blobs.
    patch_step_px
        Native px per px of a patch.
    """

    aggregate: Ints
    offset: Floats
    sigma: Floats
    amplitude: Floats
    captured: Ints
    patches: tuple[NDArray[np.float32], ...] | None = None
    patch_step_px: float = 1.0


@dataclass
class Aggregates:
    """All aggregates of a scene (A aggregates, F frames).

    Parameters
    ----------
    anchor
        (F, A, 2) positions on the glass.
    elements
        Their pieces.
    edible, carried
        (A,) whether a cell that comes across takes it, and whether it does so in one piece.
    ready
        (A,) first frame in which it may be taken.
    eater, eaten_from, eaten_to
        (A,) cell that takes it (-1), first and last frame in which something of it goes.
    pushed
        (A,) distance in px by which a crossing cell pushes it.
    gone
        (A,) frame in which it is washed away, or NEVER.
    merges_with
        (A,) neighbour that it creeps up to, or -1.
    defocus_px
        (F, A) its own sigma of defocus in native px.
    crossed
        (A,) whether a cell came over it without taking anything.
    """

    anchor: Floats
    elements: Elements
    edible: NDArray[np.bool_]
    carried: NDArray[np.bool_]
    ready: Ints
    eater: Ints
    eaten_from: Ints
    eaten_to: Ints
    pushed: Floats
    gone: Ints
    merges_with: Ints
    defocus_px: Floats
    crossed: NDArray[np.bool_]
    was_pushed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))


def live(
    *, cells: Cells, aggregates: Aggregates, domain: tuple[float, float, float, float], interval_min: float,
    pixel_size_um: float, parameters: SceneParameters, random: np.random.Generator,
) -> None:  # fmt: skip
    """Let the cells move, meet aggregates and eat: fills positions, captures and fates of all frames.

    Parameters
    ----------
    cells, aggregates
        With their positions in frame 0.
    domain
        (y0, x0, y1, x1) of the glass that cells stay on.
    interval_min, pixel_size_um, parameters
        Time step, scale and what was drawn for the scene.
    random
        The scene's stream for what lives.
    """
    n_frames, n_cells = cells.position.shape[:2]
    n_aggregates = aggregates.anchor.shape[1]
    um = 1.0 / pixel_size_um
    speed = parameters.cell_speed_um_per_min * um * interval_min
    speeds = speed * np.exp(random.normal(0.0, parameters.cell_speed_spread, n_cells))
    speeds[cells.kind == ROUND] *= 0.2
    memory = np.exp(-interval_min / parameters.cell_persistence_min)
    velocity = random.standard_normal((n_cells, 2)) * speeds[:, None] * _PER_AXIS
    meals: list[list[int]] = [[] for _ in range(n_cells)]
    to_push = aggregates.pushed.copy()
    aggregates.was_pushed = np.zeros(n_aggregates, dtype=bool)
    bite = max(interval_min, 1e-9)
    for frame in range(n_frames):
        if frame:
            noise = random.standard_normal((n_cells, 2))
            velocity = memory * velocity + np.sqrt(1 - memory**2) * speeds[:, None] * _PER_AXIS * noise
            _move(
                cells=cells, aggregates=aggregates, frame=frame, velocity=velocity, speeds=speeds, meals=meals,
                hunger=parameters.hunger, domain=domain,
            )  # fmt: skip
        if not n_aggregates or not n_cells:
            continue
        covering, depth = _coverage(cells, aggregates.anchor[frame], frame)
        for aggregate in np.flatnonzero(covering >= 0):
            cell = int(covering[aggregate])
            if aggregates.eater[aggregate] >= 0 or frame >= aggregates.gone[aggregate]:
                continue
            if not aggregates.edible[aggregate]:
                aggregates.crossed[aggregate] = True
                if to_push[aggregate] > 0 and frame + 1 < n_frames:
                    step = cells.position[frame, cell] - cells.position[max(frame - 1, 0), cell]
                    length = float(np.hypot(*step))
                    if length > 0:
                        step *= min(1.0, to_push[aggregate] / length)
                        to_push[aggregate] -= float(np.hypot(*step))
                        aggregates.anchor[frame + 1 :, aggregate] += step
                        aggregates.was_pushed[aggregate] = True
                continue
            free = len(meals[cell]) < _MEALS_AT_ONCE and cells.is_alive(cell, frame) and cells.kind[cell] != ROUND
            if frame >= max(aggregates.ready[aggregate], 1) and depth[aggregate] < _REACH * 0.85 and free:
                duration = parameters.meal_min * random.uniform(0.6, 1.4) / bite
                _begin_meal(
                    aggregates=aggregates, aggregate=int(aggregate), cell=cell, frame=frame, n_frames=n_frames,
                    duration=duration, random=random,
                )  # fmt: skip
                meals[cell].append(int(aggregate))
        for cell in range(n_cells):
            meals[cell] = [a for a in meals[cell] if aggregates.eaten_to[a] > frame and cells.is_alive(cell, frame)]


def _begin_meal(
    *, aggregates: Aggregates, aggregate: int, cell: int, frame: int, n_frames: int, duration: float,
    random: np.random.Generator,
) -> None:  # fmt: skip
    """Schedule the bites: from one side to the other, or everything at once if it is carried off."""
    pieces = np.flatnonzero(aggregates.elements.aggregate == aggregate)
    aggregates.eater[aggregate] = cell
    if aggregates.carried[aggregate]:
        times = np.full(len(pieces), frame)
    else:
        side = random.uniform(0.0, 2 * np.pi)
        order = np.argsort(np.argsort(aggregates.elements.offset[pieces] @ [np.sin(side), np.cos(side)]))
        times = frame + np.round(order * duration / max(len(pieces), 6)).astype(np.int64)
    aggregates.elements.captured[pieces] = np.where(times < n_frames, times, NEVER)
    aggregates.eaten_from[aggregate] = frame
    aggregates.eaten_to[aggregate] = min(int(times.max()), n_frames - 1)


def _move(
    *, cells: Cells, aggregates: Aggregates, frame: int, velocity: Floats, speeds: Floats, meals: list[list[int]],
    hunger: float, domain: tuple[float, float, float, float],
) -> None:  # fmt: skip
    """One step of all cells: persistence, appetite, meals, neighbours, borders."""
    before = cells.position[frame - 1]
    step = velocity.copy()
    anchors = aggregates.anchor[frame - 1]
    wanted = aggregates.edible & (aggregates.eater < 0) & (frame >= aggregates.ready) & (frame < aggregates.gone)
    targets = np.flatnonzero(wanted)
    for cell in range(len(step)):
        if not cells.is_alive(cell, frame):
            step[cell] = 0.0
            continue
        if meals[cell]:
            pull = anchors[meals[cell]].mean(axis=0) - before[cell]
            step[cell] = 0.25 * step[cell] + 0.15 * pull
        elif len(targets):
            ways = anchors[targets] - before[cell]
            lengths = np.hypot(ways[:, 0], ways[:, 1])
            nearest = int(np.argmin(lengths))
            if 0 < lengths[nearest] < 3 * cells.radius[cell]:
                step[cell] += hunger * speeds[cell] * ways[nearest] / lengths[nearest]
    gap = before[:, None] - before[None]
    distance = np.hypot(gap[..., 0], gap[..., 1]) + np.eye(len(before)) * 1e9
    overlap = np.maximum(0.85 * (cells.radius[:, None] + cells.radius[None]) - distance, 0.0)
    push = (overlap / distance)[..., None] * gap
    movable = np.array([cells.is_alive(cell, frame) for cell in range(len(step))])
    step += 0.08 * push.sum(axis=1) * movable[:, None]
    length = np.hypot(step[:, 0], step[:, 1])
    step *= np.minimum(1.0, 2.5 * speeds / np.maximum(length, 1e-9))[:, None]
    after = before + step
    for axis in (0, 1):
        low, high = domain[axis], domain[axis + 2]
        outside = (after[:, axis] < low) | (after[:, axis] > high)
        after[:, axis] = np.clip(after[:, axis], low, high)
        velocity[outside, axis] *= -1
    cells.position[frame] = after


def _coverage(cells: Cells, anchors: Floats, frame: int) -> tuple[Ints, Floats]:
    """For each anchor the cell that lies over it (-1: none) and how far out in it (0 centre, 1 outline)."""
    covering = np.full(len(anchors), -1, dtype=np.int64)
    depth = np.full(len(anchors), np.inf)
    for cell in range(len(cells.radius)):
        way = anchors - cells.position[frame, cell]
        distance = np.hypot(way[:, 0], way[:, 1])
        near = np.flatnonzero(distance < 1.9 * cells.radius[cell])
        if not len(near):
            continue
        outline = cells.outline(cell, frame)
        direction = ((np.arctan2(way[near, 0], way[near, 1]) + np.pi) * (N_ANGLES / (2 * np.pi))).astype(np.int64)
        fraction = distance[near] / outline[direction % N_ANGLES]
        better = (fraction < _REACH) & (fraction < depth[near])
        covering[near[better]] = cell
        depth[near[better]] = fraction[better]
    return covering, depth
