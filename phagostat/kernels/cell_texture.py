"""A cell probability without trained weights: cells are rough where glass is smooth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.bodies import split_bodies
from phagostat.kernels.cell_markers import distance_inside, enlarged_labels
from phagostat.kernels.components import Connectivity, label_components
from phagostat.kernels.normalisation import reduce_area
from phagostat.kernels.watershed import watershed

# Bands between Gaussians of one width and twice that, and their weights. Finer ones weigh more: coarse ones also see
# halos and what unevenness the illumination has left.
_FINE_UM, _MIDDLE_UM = 0.5, 1.0
_FINE_WEIGHT, _MIDDLE_WEIGHT, _COARSE_WEIGHT = 1.0, 0.5, 0.25
# A Gaussian narrower than this is none on a grid.
_MIN_SIGMA_PX = 0.8
# Sees the finest differences alone; white noise of variance 1 comes out with variance 36 (Immerkaer 1996).
_FINEST = np.array(((1, -2, 1), (-2, 4, -2), (1, -2, 1)), np.float32)
_FINEST_GAIN = 36.0
# Second derivatives.
_SECOND = np.array(((1, -2, 1),), np.float32)
_MIXED = np.array(((1, 0, -1), (0, 0, 0), (-1, 0, 1)), np.float32) / 4
# Where grains are not resolved, contrasts are so many times higher.
_COARSE_CONTRAST = 2.5
# Widest pixels on which bodies are told apart.
_MAX_BODY_PIXEL_UM = 1.0
# Width of a halo.
_HALO_UM = 2.0
_LOG_LEVELS = (float(np.log(0.5)), float(np.log(40)))
# Part of the frame, its smoothest pixels, whose median grey stands for the glass.
_GLASS_QUANTILE = 0.3
# The lines between two bodies and the outermost pixels of a cell stay above 0.5, so that a watershed reaches them.
_EDGE_PROBABILITY = 0.55


@dataclass(frozen=True)
class TextureOptions:
    """Lengths in um and levels in greys of the normalised frame (standard deviation about 34).

    The defaults suit cells of 10 to 80 um, with 63x objectives as well as at 0.87 um a pixel.

    Parameters
    ----------
    work_pixel_um
        Pixel size of the grid on which cells are found; frames are averaged to the nearest whole factor.
    window_um
        Width of the Gaussian over which roughness is averaged.
    darkness_weight
        Greys of roughness for a grey of darkness against the glass: bodies are dark in phase contrast, halos bright.
    noise_excess
        So many times the energy of white noise as strong as the finest differences counts as noise.
    min_roughness, max_roughness
        Between which the threshold of a frame (Otsu's) may lie, in greys: above the glass, below flat lamellae.
    max_roughness_among_halos
        The same for a frame whose cells stand in bright halos, which are no cell; with halos in part, in between.
    full_halo
        So many greys lighter than the inside of the foreground is its rim where it is nothing but halo.
    closing_um
        Gaps between grains up to twice this wide are cell.
    spread_um
        How far roughness is seen beyond a cell's edge.
    max_hole_um2
        Smooth areas within a cell (nuclei) up to this are cell; on coarse pixels as much larger as the smallest cell.
    min_cell_um2, min_cell_px
        Smaller objects are no cells, and no cell is split into smaller parts; by area, and by pixels of the work grid,
        of which texture needs enough.
    max_neck
        Two bodies are two cells if bodyness (see Notes of :func:`texture_probability`) in the neck between them falls
        below this fraction of the lesser body's.
    density_um, line_density_um
        Width of the Gaussian over which the density of grains is averaged: to find bodies, about that of a nucleus; to
        draw the line between them.
    density_power
        How much the density of grains counts against the distance from the edge, in splitting cells.
    halo_weight
        How much a grey of light counts against being in a body, where halos part the cells.
    rim_um, rim_weight
        Width of dark lines (rims and folds of two neighbours), and how much a grey of them counts likewise.
    edge_um
        Over which distance from its edge a cell becomes certain.
    """

    work_pixel_um: float = 0.4
    window_um: float = 0.8
    darkness_weight: float = 0.1
    noise_excess: float = 2.0
    min_roughness: float = 2.2
    max_roughness: float = 2.8
    max_roughness_among_halos: float = 5.0
    full_halo: float = 10.0
    closing_um: float = 1.5
    spread_um: float = 1.8
    max_hole_um2: float = 40.0
    min_cell_um2: float = 80.0
    min_cell_px: float = 500.0
    max_neck: float = 0.5
    density_um: float = 2.0
    line_density_um: float = 1.5
    density_power: float = 4.5
    halo_weight: float = 0.05
    rim_um: float = 0.5
    rim_weight: float = 0.2
    edge_um: float = 3.0


DEFAULTS = TextureOptions()


def texture_probability(
    frame: NDArray[np.uint8], *, pixel_size_um: float, options: TextureOptions = DEFAULTS
) -> NDArray[np.uint8]:
    """Cell probability of a normalised phase-contrast frame, from its texture.

    Parameters
    ----------
    frame : (y, x) uint8
        Normalised cell channel (``normalise_cells``), analysis grid.
    pixel_size_um : float
        Of that grid.
    options : TextureOptions
        Lengths and levels.

    Returns
    -------
    (y, x) uint8
        0..255 for 0..1: above 0.5 in cells, above 0.9 beyond four fifths of ``edge_um`` from the edge of a cell and
        from the line where it touches another. Not a frequency: a made-up shape that seeds and watershed can use.

    Notes
    -----
    Each frame is judged by itself. Roughness is the energy in bands of 0.5 to 3 um, less what white noise would have
    there, plus darkness; its threshold is Otsu's within fixed limits, so a frame without cells stays empty and a
    frame full of them full. Pixels too coarse for grains (from 0.63 um) want higher limits and Otsu's threshold of
    the contrast itself.

    The logarithm of *bodyness* is that of the distance from the edge, plus the density of grains (mean logarithm of
    roughness), less dark lines (the rims of two neighbours), less light where the rim of the foreground is lighter
    than its inside, which tells halos. Two bodies stay apart if the bodyness of the neck between them is less than
    ``max_neck`` of the lesser one's and both are large enough; the line between them follows the same valley, seen
    more finely. What has no dip in all of these stays one cell, and a large cell with two dense regions may become
    two. Slivers of cells at the frame's border are too small to stand by themselves. Debris as large as a cell is
    taken for one.
    """
    if frame.dtype != np.uint8:
        raise TypeError(f"a normalised frame has 8 bit (found: {frame.dtype})")
    if not pixel_size_um > 0:
        raise ValueError(f"the pixel size must be positive (found: {pixel_size_um} um)")
    factor = min(max(1, round(options.work_pixel_um / pixel_size_um)), *frame.shape)
    pixel_um = pixel_size_um * factor
    grey = reduce_area(frame, factor=factor).astype(np.float32)
    rough = roughness(grey, pixel_size_um=pixel_um, options=options)
    options = _with_pixels(options, pixel_um)
    mask, halo = _foreground(grey, rough, pixel_um, options)
    if 2 * pixel_um <= _MAX_BODY_PIXEL_UM and min(mask.shape) > 1:
        # Bodies are ten times as wide: a grid of half as many pixels a side will do. Any cell pixel counts there.
        some = (_halved(mask.astype(np.float32)) > 0).astype(np.uint8)
        bodies = _bodies(_halved(grey), _halved(rough), some, halo=halo, pixel_um=2 * pixel_um, options=options)
        bodies = enlarged_labels(bodies, mask.shape)
    else:
        bodies = _bodies(grey, rough, mask, halo=halo, pixel_um=pixel_um, options=options)
    probability = _probability(mask, bodies, options.edge_um / pixel_um)
    if factor == 1:
        return probability
    height, width = (side // factor * factor for side in frame.shape)
    full = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
    padded: NDArray[np.uint8] = np.pad(full, ((0, frame.shape[0] - height), (0, frame.shape[1] - width)), mode="edge")
    return padded


def roughness(
    grey: NDArray[np.float32], *, pixel_size_um: float, options: TextureOptions = DEFAULTS
) -> NDArray[np.float32]:
    """Local strength of texture and darkness.

    Parameters
    ----------
    grey : (y, x) float32
        Normalised cell channel.
    pixel_size_um : float
        Of its grid.
    options : TextureOptions
        Lengths and levels.

    Returns
    -------
    (y, x) float32
        Greys; about 0 on glass, whatever its noise.
    """
    fine_px = max(_FINE_UM / pixel_size_um, _MIN_SIGMA_PX)
    middle_px = max(_MIDDLE_UM / pixel_size_um, 2 * _MIN_SIGMA_PX)
    window_px = max(options.window_um / pixel_size_um, 1.5 * _MIN_SIGMA_PX)
    finer = _blur(grey, fine_px)
    smooth = _blur(finer, np.sqrt(middle_px**2 - fine_px**2))
    energy = _FINE_WEIGHT * (finer - smooth) ** 2
    finest = cv2.filter2D(grey, cv2.CV_32F, _FINEST, borderType=cv2.BORDER_REFLECT_101)
    white = _FINE_WEIGHT * _white_noise_gain(fine_px, middle_px) + _MIDDLE_WEIGHT * _white_noise_gain(
        middle_px, 2 * middle_px
    )
    energy -= np.float32(options.noise_excess * white / _FINEST_GAIN) * finest * finest
    energy = _blur(energy, window_px)
    # What is left is smooth enough for a grid of half as many pixels.
    half = _halved(smooth)
    coarser = _blur(half, np.sqrt(3) * middle_px / 2)
    coarsest = _blur(coarser, np.sqrt(12) * middle_px / 2)
    coarse_energy = _MIDDLE_WEIGHT * (half - coarser) ** 2 + _COARSE_WEIGHT * (coarser - coarsest) ** 2
    energy += _enlarged(_blur(coarse_energy, window_px / 2), grey.shape)
    # A ninth of the pixels tells the quantile well enough.
    sampled = energy[::3, ::3]
    glass = np.median(smooth[::3, ::3][sampled <= np.quantile(sampled, _GLASS_QUANTILE)])
    darkness = np.float32(options.darkness_weight) * np.maximum(np.float32(glass) - smooth, 0)
    rough: NDArray[np.float32] = np.sqrt(np.maximum(energy, 0) + darkness * darkness)
    return rough


def _with_pixels(options: TextureOptions, pixel_um: float) -> TextureOptions:
    """Options whose areas are at least what the grid can tell: the largest hole grows with the smallest cell."""
    smallest_um2 = max(options.min_cell_um2, options.min_cell_px * pixel_um**2)
    growth = smallest_um2 / options.min_cell_um2 if options.min_cell_um2 > 0 else 1.0
    return replace(options, min_cell_um2=smallest_um2, max_hole_um2=options.max_hole_um2 * growth)


def _foreground(
    grey: NDArray[np.float32], rough: NDArray[np.float32], pixel_um: float, options: TextureOptions
) -> tuple[NDArray[np.uint8], float]:
    """Mask of cells, and how much they stand in halos: 0 to 1.

    On pixels too coarse for grains only whole bodies stand out, and dirt is rough as well: contrasts are higher then,
    and what counts is the contrast itself and not its logarithm.
    """
    coarse = _FINE_UM / pixel_um < _MIN_SIGMA_PX
    scale = _COARSE_CONTRAST if coarse else 1.0
    lowest, high, highest = (
        scale * limit for limit in (options.min_roughness, options.max_roughness, options.max_roughness_among_halos)
    )
    threshold = float(np.clip(_otsu(rough, logarithmic=not coarse), lowest, max(lowest, highest)))
    step = 1 if coarse else 2
    inner = _rough_regions(rough[::step, ::step], threshold, step * pixel_um, options)
    brightness = _rim_brightness(grey[::step, ::step], inner, step * pixel_um)
    halo = min(max(brightness / options.full_halo, 0.0), 1.0)
    if coarse:
        return inner, halo
    limit = max(lowest, high + halo * (highest - high))
    return _rough_regions(rough, min(threshold, limit), pixel_um, options), halo


def _rough_regions(
    rough: NDArray[np.float32], threshold: float, pixel_um: float, options: TextureOptions
) -> NDArray[np.uint8]:
    """0 or 1: rough pixels, gaps and holes closed, rims taken off, small objects removed."""
    mask = (rough > threshold).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disk(options.closing_um / pixel_um))
    mask = np.uint8(1) - _without_small(1 - mask, options.max_hole_um2 / pixel_um**2, connectivity=4)
    # What lies beyond the frame takes nothing off.
    mask = cv2.erode(mask, _disk(options.spread_um / pixel_um), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return _without_small(mask, options.min_cell_um2 / pixel_um**2, connectivity=8)


def _rim_brightness(grey: NDArray[np.float32], mask: NDArray[np.uint8], pixel_um: float) -> float:
    """By how many greys the rim of a mask is lighter than its inside; 0 where it lacks one of them."""
    smooth = _blur(grey, _HALO_UM / 2 / pixel_um)
    depth = distance_inside(mask)
    rim = smooth[(depth > 0) & (depth < _HALO_UM / pixel_um)]
    inside = smooth[depth >= 2 * _HALO_UM / pixel_um]
    return float(np.median(rim) - np.median(inside)) if rim.size and inside.size else 0.0


def _otsu(rough: NDArray[np.float32], *, logarithmic: bool = True) -> float:
    """Threshold between smooth and rough, 0.5 to 40 greys."""
    sampled = rough[::2, ::2]
    if logarithmic:
        counts, edges = np.histogram(np.log(np.maximum(sampled, 0.3)), 128, range=_LOG_LEVELS)
    else:
        counts, edges = np.histogram(sampled, 128, range=(0.0, 40.0))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    moment = np.cumsum(counts * centres)
    above = counts.sum() - below
    both = (below > 0) & (above > 0)
    if not both.any():
        return 0.0
    difference = moment[:-1][both] / below[both] - (moment[-1] - moment[:-1][both]) / above[both]
    between = below[both] * above[both] * difference**2
    threshold = float(edges[1:-1][both][np.argmax(between)])
    return float(np.exp(threshold)) if logarithmic else threshold


def _without_small(mask: NDArray[np.uint8], smallest_px: float, *, connectivity: Connectivity) -> NDArray[np.uint8]:
    """A mask without components of fewer pixels."""
    found = label_components(
        np.ascontiguousarray(mask),
        above_px=np.ceil(smallest_px) - 0.5,
        connectivity=connectivity,
        what="objects",
        remedy="raise the smallest area of a cell: this is noise",
    )
    return (found.labels > 0).astype(np.uint8)


def _bodies(
    grey: NDArray[np.float32],
    rough: NDArray[np.float32],
    mask: NDArray[np.uint8],
    *,
    halo: float,
    pixel_um: float,
    options: TextureOptions,
) -> NDArray[np.int32]:
    """Labels of the bodies that the foreground consists of."""
    flat = np.flatnonzero(mask.ravel())
    if flat.size == 0:
        return np.zeros(mask.shape, np.int32)
    depth = np.log(np.maximum(_blur(distance_inside(mask), 1 / pixel_um), 1e-3))
    grains = _halved(np.log(np.maximum(rough, 1)))
    rims = _dark_lines(grey, max(options.rim_um / pixel_um, _MIN_SIGMA_PX))
    light = _halved(grey)

    def bodyness(density_um: float, halo_um: float, rim_um: float) -> NDArray[np.float32]:
        """Logarithm of how much a pixel is in a body."""
        coarse = _blur(grains, density_um / pixel_um / 2) * np.float32(options.density_power)
        if halo > 0:
            coarse -= np.float32(options.halo_weight * halo) * _blur(light, halo_um / pixel_um / 2)
        value = _enlarged(coarse, mask.shape) + depth
        value -= np.float32(options.rim_weight) * _blur(rims, max(rim_um / pixel_um, _MIN_SIGMA_PX))
        return value

    broad = bodyness(options.density_um, _HALO_UM, 2 * options.rim_um)
    smallest_px = options.min_cell_um2 / pixel_um**2
    bodies = split_bodies(broad, mask, max_neck=options.max_neck, smallest_px=smallest_px)
    # The line between two bodies follows finer features than those which tell that there are two.
    fine = bodyness(options.line_density_um, _HALO_UM / 2, options.rim_um)
    low, high = np.quantile(fine.ravel()[flat][::4], (0.005, 0.995))
    relief = np.clip((fine - low) / max(float(high - low), 1e-6), 0, 1) * np.float32(127) + np.float32(128)
    within = np.where(mask > 0, relief, 0).astype(np.uint8)
    return watershed(within, bodies.tops, min_probability=0.5)


def _dark_lines(grey: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Strength of dark lines in greys: curvature across less curvature along."""
    smooth = _blur(grey, sigma_px)
    along_x = cv2.filter2D(smooth, cv2.CV_32F, _SECOND)
    along_y = cv2.filter2D(smooth, cv2.CV_32F, _SECOND.T)
    mixed = cv2.filter2D(smooth, cv2.CV_32F, _MIXED)
    mean = (along_x + along_y) / 2
    spread = np.sqrt(((along_x - along_y) / 2) ** 2 + mixed * mixed)
    strength = np.maximum(mean + spread, 0) - np.abs(mean - spread)
    lines: NDArray[np.float32] = np.maximum(strength, 0) * np.float32(sigma_px * sigma_px)
    return lines


def _probability(mask: NDArray[np.uint8], bodies: NDArray[np.int32], edge_px: float) -> NDArray[np.uint8]:
    """Probability that rises from the edges of the bodies, and falls outside."""
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    # Exact in single precision: labels are far fewer than 2**24. 16 bit are three times as fast.
    labels = bodies.astype(np.uint16 if bodies.max(initial=0) < 2**16 else np.float32)
    around = np.ones((3, 3), np.uint8)
    lines = cv2.dilate(labels, around) != cv2.erode(labels, around)
    rim = cv2.erode(mask, around, borderType=cv2.BORDER_CONSTANT, borderValue=1) == 0
    away = ~((lines | rim) & (mask > 0))
    part = np.minimum(distance_inside(away.view(np.uint8)), np.float32(edge_px)) / np.float32(edge_px)
    inner = cv2.convertScaleAbs(part, alpha=255 * (1 - _EDGE_PROBABILITY), beta=255 * _EDGE_PROBABILITY)
    outer = cv2.convertScaleAbs(part, alpha=-127.5, beta=127.5)
    probability: NDArray[np.uint8] = np.where(mask > 0, inner, outer)
    return probability


def _disk(radius_px: float) -> NDArray[np.uint8]:
    """A disk of this radius as a structuring element; a single pixel below 0.7."""
    reach = int(np.ceil(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside: NDArray[np.bool_] = (y * y + x * x <= radius_px * radius_px + 0.1) | ((y == 0) & (x == 0))
    return inside.astype(np.uint8)


def _white_noise_gain(narrow_px: float, wide_px: float) -> float:
    """Variance of white noise of variance 1 after the difference of two Gaussians."""
    narrow, wide = narrow_px**2, wide_px**2
    return float((1 / narrow + 1 / wide - 4 / (narrow + wide)) / (4 * np.pi))


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image on a grid of twice the pixel size."""
    size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
    smaller: NDArray[np.float32] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller


def _enlarged(image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An image on a finer grid, linear in between."""
    larger: NDArray[np.float32] = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return larger


def _blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    return blurred
