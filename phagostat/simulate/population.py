"""Who is there in the first frame: cells, aggregates, dust and haze, drawn for the area that the stage will show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.life import _MODES as OUTLINE_MODES
from phagostat.simulate.life import N_HORNS, NEVER, ROUND, SPREAD, THICK, Aggregates, Cells, Elements, Horns
from phagostat.simulate.ranges import SceneParameters

Floats = NDArray[np.float64]
Domain = tuple[float, float, float, float]

_CANDIDATES = 5  # places that are tried for a blob of a clump
_OWN_ROOM = 0.7  # of the spacing: a place is free if no other blob is nearer


@dataclass(frozen=True)
class Spots:
    """Gaussian spots fixed on the glass: (N, 2) position, (N,) sigma in native px, (N,) amplitude."""

    position: Floats
    sigma: Floats
    amplitude: Floats


def visible_domain(shape_yx: tuple[int, int], shift_yx_px: Floats, margin_px: float) -> Domain:
    """Give the (y0, x0, y1, x1) of the glass that some frame shows, with a margin."""
    low, high = shift_yx_px.min(axis=0), shift_yx_px.max(axis=0)
    y0, x0 = -high - margin_px
    y1, x1 = np.array(shape_yx) - low + margin_px
    return float(y0), float(x0), float(y1), float(x1)


def area_mm2(domain: Domain, pixel_size_um: float) -> float:
    """Give a domain's area."""
    return (domain[2] - domain[0]) * (domain[3] - domain[1]) * (pixel_size_um * 1e-3) ** 2


def scatter(n: int, domain: Domain, random: np.random.Generator) -> Floats:
    """Draw ``n`` positions uniformly."""
    return random.uniform(domain[:2], domain[2:], (n, 2))


def draw_cells(
    *, domain: Domain, centre_yx: tuple[float, float], n_frames: int, interval_min: float, pixel_size_um: float,
    parameters: SceneParameters, random: np.random.Generator,
) -> Cells:  # fmt: skip
    """Draw the cells of a scene; the first lies near ``centre_yx``, so that no field is without one."""
    um = 1.0 / pixel_size_um
    n = max(2, round(parameters.cell_density_per_mm2 * area_mm2(domain, pixel_size_um)))
    radius = parameters.cell_radius_um * um * np.exp(random.normal(0.0, parameters.cell_radius_spread, n))
    lot = (random.permutation(n) + random.uniform(0.0, 1.0, n)) / n  # stratified: shares of kinds scatter little
    kind = np.where(lot < parameters.round_fraction, ROUND, SPREAD)
    kind[(lot >= parameters.round_fraction) & (lot < parameters.round_fraction + parameters.thick_fraction)] = THICK
    kind[0] = SPREAD
    radius *= np.array([1.0, 0.72, 0.7])[kind]
    position = np.empty((n, 2))
    position[0] = np.array(centre_yx) + random.normal(0.0, 0.3 * radius[0], 2)
    for cell in range(1, n):  # the candidate that is furthest from those that are there, so that cells rarely pile up
        candidates = scatter(12, domain, random)
        gaps = np.hypot(*(candidates[:, None] - position[None, :cell]).transpose(2, 0, 1))
        room = (gaps - 0.8 * radius[None, :cell]).min(axis=1)
        position[cell] = candidates[int(np.argmax(room))]
    modes = OUTLINE_MODES[None, :].astype(float)
    strength = np.where(modes < 5, 0.30 / modes**0.9, 0.5 / modes**1.6) * np.exp(-((modes / 30) ** 2))
    amplitude = parameters.shape_roughness * strength * np.abs(random.standard_normal((n, OUTLINE_MODES.size)))
    amplitude *= np.array([1.0, 0.9, 0.25])[kind][:, None]
    period = parameters.shape_period_min / interval_min / np.sqrt(modes)
    rate = 2 * np.pi / period * random.normal(0.0, 0.6, amplitude.shape)
    death = np.full(n, NEVER)
    dying = (random.uniform(0.0, 1.0, n) < parameters.death_fraction) & (kind != ROUND)
    dying[0] = False
    death[dying] = random.integers(1, max(n_frames, 2), int(dying.sum()))
    track = np.repeat(position[None], n_frames, axis=0)
    phase = random.uniform(0.0, 2 * np.pi, amplitude.shape)
    horns = Horns(
        direction=random.uniform(0.0, 2 * np.pi, (n, N_HORNS)),
        length=random.uniform(0.1, 0.65, (n, N_HORNS)) * np.array([1.0, 0.8, 0.0])[kind][:, None],
        width=random.uniform(0.06, 0.28, (n, N_HORNS)),
        turn=random.normal(0.0, 0.6, (n, N_HORNS)) * interval_min / parameters.shape_period_min,
        phase=random.uniform(0.0, 2 * np.pi, (n, N_HORNS)),
        rate=2 * np.pi * interval_min / parameters.shape_period_min * random.uniform(0.5, 1.5, (n, N_HORNS)),
    )
    return Cells(track, radius, kind, death, amplitude, phase, rate, horns, random.integers(0, 2**31, n))


def draw_clump(n_blobs: int, spacing_px: float, random: np.random.Generator) -> Floats:
    """Give the (n, 2) offsets of a clump's blobs: each is stuck to one that is there, along a preferred axis.

    Of some places the first that is free is taken (else the freest), so that a clump grows in area, not in brightness:
    real clumps have flat tops and steep sides.
    """
    offsets = np.zeros((n_blobs, 2))
    axis = random.uniform(0.0, np.pi)
    for blob in range(1, n_blobs):
        direction = axis + random.normal(0.0, 0.9, _CANDIDATES) + np.pi * random.integers(2, size=_CANDIDATES)
        step = spacing_px * random.uniform(0.7, 1.2, _CANDIDATES)
        ways = step[:, None] * np.stack([np.sin(direction), np.cos(direction)], axis=1)
        places = offsets[random.integers(blob, size=_CANDIDATES)] + ways
        away = places[:, None] - offsets[None, :blob]
        room = np.minimum((away * away).sum(axis=2).min(axis=1), (_OWN_ROOM * spacing_px) ** 2)
        offsets[blob] = places[int(np.argmax(room))]
    return np.asarray(offsets - offsets.mean(axis=0))


def place_clumps(
    *, domain: Domain, shape_yx: tuple[int, int], pixel_size_um: float, clustered_fraction: float,
    parameters: SceneParameters, random: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw where clumps lie; the field of frame 0 has at least the promised number, and never fewer than four."""
    n = round(parameters.clump_density_per_mm2 * area_mm2(domain, pixel_size_um))
    field: Domain = (0.0, 0.0, float(shape_yx[0]), float(shape_yx[1]))
    least = max(4, int(np.ceil(parameters.n_clumps_min_per_mm2 * area_mm2(field, pixel_size_um))))
    position = scatter(n, domain, random)
    companions = np.flatnonzero(random.uniform(0.0, 1.0, n) < clustered_fraction)
    free = np.setdiff1d(np.arange(n), companions)
    if len(free):  # some lie near another one, wherever that is
        spread = parameters.cluster_um / pixel_size_um
        near = position[random.choice(free, len(companions))] + random.normal(0.0, spread, (len(companions), 2))
        position[companions] = np.clip(near, domain[:2], domain[2:])
    present = int(np.sum(np.all((position > 0) & (position < np.array(shape_yx)), axis=1)))
    return np.concatenate([position, scatter(max(0, least - present), field, random)])


def assign_fates(
    *, anchor: Floats, elements: Elements, n_frames: int, interval_min: float, pixel_size_um: float, reduction: int,
    parameters: SceneParameters, random: np.random.Generator,
) -> Aggregates:  # fmt: skip
    """Draw what is to become of each aggregate once its time comes.

    Parameters
    ----------
    anchor
        (A, 2) positions in frame 0.
    elements
        The pieces of the aggregates.
    n_frames, interval_min, pixel_size_um, reduction, parameters, random
        Length of the movie, scale, and what was drawn for the scene.
    """
    n = len(anchor)
    um = 1.0 / pixel_size_um
    lot = random.uniform(0.0, 1.0, (n, 6))
    edible = lot[:, 0] < parameters.edible_fraction
    carried = edible & (lot[:, 1] < parameters.carried_fraction)
    pushed = ~edible & (lot[:, 2] < parameters.pushed_fraction / max(1 - parameters.edible_fraction, 0.05))
    detached = ~edible & ~pushed & (lot[:, 3] < parameters.detached_fraction)
    merging = ~edible & ~pushed & ~detached & (lot[:, 4] < parameters.merging_fraction)
    unfocused = ~edible & ~pushed & ~detached & ~merging & (lot[:, 5] < parameters.unfocused_fraction)
    track = np.repeat(anchor[None], n_frames, axis=0)
    extent = np.zeros(n)
    np.maximum.at(extent, elements.aggregate, np.hypot(*elements.offset.T) + 1.5 * elements.sigma)
    gone = np.full(n, NEVER)
    gone[detached] = random.integers(1, max(n_frames, 2), int(detached.sum()))
    merges_with = np.full(n, -1, dtype=np.int64)
    for aggregate in np.flatnonzero(merging):
        partners = np.flatnonzero(~edible & ~merging & ~pushed & ~detached)
        way = anchor[partners] - anchor[aggregate]
        distance = np.hypot(way[:, 0], way[:, 1])
        near = np.flatnonzero((distance > 0) & (distance < 8.0 * um + extent[aggregate] + extent[partners]))
        if not len(near):
            continue
        chosen = near[int(np.argmin(distance[near]))]
        partner = int(partners[chosen])
        touch = 0.8 * (extent[aggregate] + extent[partner])
        travel = max(0.0, 1.0 - touch / distance[chosen]) * way[chosen]
        start = random.uniform(0.1, 0.6) * n_frames
        length = max(4.0, float(np.hypot(*travel)) / (0.5 * um * interval_min))  # creeps 0.5 um/min
        progress = np.clip((np.arange(n_frames) - start) / length, 0.0, 1.0)
        track[:, aggregate] += progress[:, None] * travel
        merges_with[aggregate] = partner
    defocus = np.zeros((n_frames, n))
    for aggregate in np.flatnonzero(unfocused):
        start = int(random.integers(0, n_frames))
        length = int(random.integers(1, max(2, n_frames // 5)))
        defocus[start : start + length, aggregate] = parameters.unfocused_apx * reduction
    return Aggregates(
        anchor=track, elements=elements, edible=edible, carried=carried,
        ready=np.floor(random.uniform(0.03, 0.95, n) * n_frames).astype(np.int64),
        eater=np.full(n, -1, dtype=np.int64), eaten_from=np.full(n, NEVER), eaten_to=np.full(n, NEVER),
        pushed=np.where(pushed, parameters.pushed_um * um, 0.0), gone=gone, merges_with=merges_with,
        defocus_px=defocus, crossed=np.zeros(n, dtype=bool),
    )  # fmt: skip


def draw_blobs(
    *, n_aggregates: int, pixel_size_um: float, parameters: SceneParameters, random: np.random.Generator
) -> Elements:
    """Draw aggregates as clumps of Gaussian blobs."""
    sigma_px = parameters.blob_sigma_um / pixel_size_um
    counts = np.arange(1, int(parameters.n_blobs_max) + 1)
    weights = counts**-parameters.blob_count_exponent
    n_blobs = random.choice(counts, size=n_aggregates, p=weights / weights.sum())
    large = random.uniform(0.0, 1.0, n_aggregates) < parameters.large_clump_fraction
    most = parameters.n_blobs_large
    n_blobs[large] = np.exp(random.uniform(np.log(0.25 * most), np.log(most), int(large.sum()))).astype(n_blobs.dtype)
    brightness = parameters.brightness_counts * np.exp(random.normal(0.0, parameters.brightness_spread, n_aggregates))
    brightness[large] *= 1.1  # large ones are thicker
    owners = np.repeat(np.arange(n_aggregates), n_blobs)
    clumps = [draw_clump(int(n), parameters.blob_spacing_sigma * sigma_px, random) for n in n_blobs]
    offsets = np.concatenate(clumps) if clumps else np.zeros((0, 2))
    spread = random.uniform(0.75, 1.25, len(owners))
    amplitude = brightness[owners] * random.uniform(0.7, 1.3, len(owners))
    return Elements(owners.astype(np.int64), offsets, sigma_px * spread, amplitude, np.full(len(owners), NEVER))


def draw_spots(
    *, density_per_mm2: float, domain: Domain, sigma_um: tuple[float, float], amplitude: tuple[float, float],
    pixel_size_um: float, random: np.random.Generator,
) -> Spots:  # fmt: skip
    """Draw Gaussian spots that lie on the glass, with sigmas and amplitudes from (low, high)."""
    n = round(density_per_mm2 * area_mm2(domain, pixel_size_um))
    sigma = random.uniform(*sigma_um, n) / pixel_size_um
    return Spots(scatter(n, domain, random), sigma, random.uniform(*amplitude, n))
