"""One scene: its life drawn once, its frames rendered on demand, its truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import SettingsError
from phagostat.simulate import fluorescence, phase, semi
from phagostat.simulate.conditions import draw_conditions
from phagostat.simulate.life import live
from phagostat.simulate.painting import Image, Texture, blur, paint_spots
from phagostat.simulate.population import (
    Domain,
    assign_fates,
    draw_blobs,
    draw_cells,
    draw_spots,
    place_clumps,
    visible_domain,
)
from phagostat.simulate.real import load_material
from phagostat.simulate.spec import AGGREGATES_CHANNEL, CELLS_CHANNEL, Mode, SimulationSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]

_CONDITIONS, _CELLS, _AGGREGATES, _LIFE, _FIXED, _NOISE, _REAL = range(1, 8)
_REAL_CLUSTERED = 0.15  # share of real cut-outs that lie near another one; fewer, because most were cut out together
_LEAST_BLUR_PX = 0.05  # a narrower Gaussian changes no pixel by a count


@dataclass(frozen=True)
class AreaRows:
    """True footprints in one frame (one row per aggregate): um2, and centroid on the glass in native px."""

    aggregate: NDArray[np.int64]
    area_um2: Floats
    centroid_yx_px: Floats


class SceneSimulation:
    """A scene of which any frame can be rendered, in any order and any number of times.

    Parameters
    ----------
    spec
        The acquisition.
    scene
        Index of the scene.
    """

    def __init__(self, spec: SimulationSpec, scene: int) -> None:
        self.spec, self.scene = spec, scene
        self.overrides = spec.overrides(scene)
        self.parameters = spec.parameters(scene)
        self.n_frames = spec.n_frames(scene)
        self.shape_yx = spec.scene_shape_yx(scene)
        self._interval_min = spec.interval_s / 60.0
        self.conditions = draw_conditions(
            n_frames=self.n_frames, interval_s=spec.interval_s, shape_yx=self.shape_yx, parameters=self.parameters,
            overrides=self.overrides, random=spec.random(scene, _CONDITIONS),
        )  # fmt: skip
        self._material = None
        if spec.mode is Mode.SEMI:
            if spec.data is None:
                raise SettingsError(
                    "mode semi needs real microscopy", found="no data", remedy="give its folder as data="
                )
            self._material = load_material(Path(spec.data))
        self._real_looks: list[semi.RealLook] = []
        self._populate()
        self._area_key: bytes | None = None
        self._area_rows: AreaRows | None = None
        self._footprints: dict[int, tuple[bytes, NDArray[np.int64], Image]] = {}

    def _populate(self) -> None:
        spec, scene, parameters = self.spec, self.scene, self.parameters
        um = 1.0 / spec.pixel_size_um
        shifts = self.conditions.shift_yx_px
        on_glass = visible_domain(self.shape_yx, shifts, 6.0 * um)
        for_cells = visible_domain(self.shape_yx, shifts, parameters.cell_radius_um * um)
        centre = (self.shape_yx[0] / 2 - shifts[0, 0], self.shape_yx[1] / 2 - shifts[0, 1])
        self.domain = on_glass
        self.cells = draw_cells(
            domain=for_cells, centre_yx=centre, n_frames=self.n_frames, interval_min=self._interval_min,
            pixel_size_um=spec.pixel_size_um, parameters=parameters, random=spec.random(scene, _CELLS),
        )  # fmt: skip
        if self._material is not None:
            self.cells, self._real_looks = semi.draw_real_looks(
                material=self._material, cells=self.cells, random=spec.random(scene, _REAL)
            )
        random = spec.random(scene, _AGGREGATES)
        anchor = place_clumps(
            domain=on_glass, shape_yx=self.shape_yx, pixel_size_um=spec.pixel_size_um,
            clustered_fraction=parameters.clustered_fraction if self._material is None else _REAL_CLUSTERED,
            parameters=parameters, random=random,
        )  # fmt: skip
        if self._material is None:
            elements = draw_blobs(
                n_aggregates=len(anchor), pixel_size_um=spec.pixel_size_um, parameters=parameters, random=random
            )
        else:
            elements = semi.draw_pieces(
                material=self._material, n_aggregates=len(anchor), pixel_size_um=spec.pixel_size_um,
                parameters=parameters, random=random,
            )  # fmt: skip
        self.aggregates = assign_fates(
            anchor=anchor, elements=elements, n_frames=self.n_frames, interval_min=self._interval_min,
            pixel_size_um=spec.pixel_size_um, reduction=spec.reduction, parameters=parameters, random=random,
        )  # fmt: skip
        live(
            cells=self.cells, aggregates=self.aggregates, domain=for_cells, interval_min=self._interval_min,
            pixel_size_um=spec.pixel_size_um, parameters=parameters, random=spec.random(scene, _LIFE),
        )  # fmt: skip
        self._tilt = fluorescence.Tilt.none()  # real aggregates are as blurred as they were where they lay
        if self._material is None:
            self._tilt = fluorescence.Tilt.of(
                parameters,
                centre_yx=np.array(centre),
                side_px=min(self.shape_yx),
                reduction=spec.reduction,
                pixel_size_um=spec.pixel_size_um,
            )
        self._draw_surroundings(on_glass)

    def _draw_surroundings(self, on_glass: Domain) -> None:
        """Draw what does not take part: dust, haze, debris, glow and, for drawn cells, what makes them look alike."""
        spec, parameters = self.spec, self.parameters
        um = 1.0 / spec.pixel_size_um
        random = spec.random(self.scene, _FIXED)
        self._seat = random.normal(0.0, 0.2, (len(self.aggregates.elements.aggregate), 2))
        bright = parameters.brightness_counts
        self._dust = draw_spots(
            density_per_mm2=parameters.dust_density_per_mm2, domain=on_glass, sigma_um=(0.18, 0.3),
            amplitude=(0.02 * bright, parameters.dust_brightness * bright), pixel_size_um=spec.pixel_size_um,
            random=random,
        )  # fmt: skip
        self._haze = draw_spots(
            density_per_mm2=parameters.haze_density_per_mm2, domain=on_glass,
            sigma_um=(0.6 * parameters.haze_sigma_um, 1.4 * parameters.haze_sigma_um),
            amplitude=(0.2 * parameters.haze_brightness * bright, 1.8 * parameters.haze_brightness * bright),
            pixel_size_um=spec.pixel_size_um, random=random,
        )  # fmt: skip
        self._debris = draw_spots(
            density_per_mm2=parameters.debris_density_per_mm2, domain=on_glass, sigma_um=(0.15, 0.35),
            amplitude=(-0.12, -0.02), pixel_size_um=spec.pixel_size_um, random=random,
        )  # fmt: skip
        self._glow = fluorescence.draw_cell_glow(
            self.cells, pixel_size_um=spec.pixel_size_um, parameters=parameters, random=random
        )
        self._uneven = [
            Texture.draw(period_px=400 * um, shortest_px=40 * um, corner_px=120 * um, slope=4.0, random=random)
            for _ in range(2)
        ]
        self._looks: list[phase.Look] = []
        if self._material is not None:
            return
        self._looks = [
            phase.draw_look(
                kind=int(kind), seed=int(seed), pixel_size_um=spec.pixel_size_um, interval_min=self._interval_min,
                parameters=parameters,
            )
            for kind, seed in zip(self.cells.kind, self.cells.seed, strict=True)
        ]  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ rendering
    def clean_aggregates(self, frame: int, *, shift_yx_px: tuple[float, float] | None = None) -> Image:
        """Give the noise-free fluorescence of a frame in counts above the camera's offset.

        Parameters
        ----------
        frame
            Index of the frame.
        shift_yx_px
            Rendered at this shift (native px) instead of the frame's own.
        """
        conditions, parameters = self.conditions, self.parameters
        canvas = np.zeros(self.shape_yx, dtype=np.float32)
        origin = -(conditions.shift_yx_px[frame] if shift_yx_px is None else np.array(shift_yx_px))
        defocus = float(conditions.defocus_px[frame]) * self.spec.reduction
        fluorescence.paint_outside(
            canvas, aggregates=self.aggregates, frame=frame, origin_yx=origin, defocus_px=defocus, tilt=self._tilt
        )
        fluorescence.paint_inside(
            canvas, aggregates=self.aggregates, cells=self.cells, frame=frame, origin_yx=origin, defocus_px=defocus,
            tilt=self._tilt, interval_min=self._interval_min, parameters=parameters, seat=self._seat,
        )  # fmt: skip
        if self._material is None:
            for spots in (self._dust, self._haze):
                fluorescence.paint_fixed(canvas, spots=spots, origin_yx=origin, defocus_px=defocus, tilt=self._tilt)
            fluorescence.paint_cell_glow(
                canvas, glow=self._glow, cells=self.cells, frame=frame, origin_yx=origin, defocus_px=defocus,
                autofluorescence_counts=parameters.cell_autofluorescence_counts,
            )  # fmt: skip
        canvas *= np.float32(conditions.bleaching[frame])
        self._add_background(canvas, origin, AGGREGATES_CHANNEL, parameters.glow_counts, parameters.glow_unevenness)
        return self._lit(canvas, frame, AGGREGATES_CHANNEL)

    def clean_cells(self, frame: int, *, shift_yx_px: tuple[float, float] | None = None) -> Image:
        """Give the noise-free phase contrast of a frame in counts above the camera's offset; see clean_aggregates."""
        parameters = self.parameters
        sigma = float(self.conditions.defocus_px[frame]) * self.spec.reduction
        margin = int(np.ceil(4 * sigma)) + 1 if sigma > _LEAST_BLUR_PX else 0
        canvas = np.zeros((self.shape_yx[0] + 2 * margin, self.shape_yx[1] + 2 * margin), dtype=np.float32)
        origin = -(self.conditions.shift_yx_px[frame] if shift_yx_px is None else np.array(shift_yx_px)) - margin
        debris = self._debris
        paint_spots(canvas, position=debris.position - origin, sigma=debris.sigma, amplitude=debris.amplitude)
        for cell, look in enumerate(self._looks):
            phase.paint_cell(
                canvas, cells=self.cells, cell=cell, frame=frame, look=look, origin_yx=origin,
                pixel_size_um=self.spec.pixel_size_um, contrast=parameters.phase_contrast,
            )  # fmt: skip
        for cell, real_look in enumerate(self._real_looks):
            semi.paint_real_cell(
                canvas, cells=self.cells, cell=cell, frame=frame, look=real_look, origin_yx=origin,
                contrast=parameters.phase_contrast,
            )  # fmt: skip
        if margin:
            canvas = blur(canvas, sigma)[margin:-margin, margin:-margin]
        np.maximum(canvas, np.float32(-0.9), out=canvas)  # no light below darkness
        self._add_background(canvas, origin + margin, CELLS_CHANNEL, 1.0, parameters.background_unevenness)
        canvas *= np.float32(parameters.phase_background_counts)
        return self._lit(canvas, frame, CELLS_CHANNEL)

    def _add_background(self, canvas: Image, origin: Floats, channel: int, level: float, unevenness: float) -> None:
        """Add the glow of the medium: a drawn texture, or the smooth part of a real field."""
        if self._material is None:
            fluorescence.paint_background(
                canvas, texture=self._uneven[channel], level_counts=level, unevenness=unevenness, origin_yx=origin
            )
            return
        field = self._material.background
        if channel == AGGREGATES_CHANNEL:
            field, level = self._material.glow, self._material.glow_grey * semi.counts_per_grey(self.parameters)
        y, x = (np.arange(size) + start for size, start in zip(canvas.shape, origin, strict=True))
        width = semi.glow_field_px(self.spec.pixel_size_um)
        canvas += np.float32(level) * semi.cosine_field(field, y=y, x=x, field_px=width)

    def _lit(self, canvas: Image, frame: int, channel: int) -> Image:
        """Apply the lamp: brightness, vignette and tilt, which stay with the camera whatever the stage does."""
        tilt = self.conditions.gradient_yx[frame]
        y, x = (np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in canvas.shape)
        loss = np.float32(self.parameters.vignette / 2)
        if channel == AGGREGATES_CHANNEL and self._material is None:
            loss += np.float32(self.parameters.fluorescence_vignette / 2)
        column = 1 - loss * y**2 + np.float32(tilt[0]) * y
        row = -loss * x**2 + np.float32(tilt[1]) * x
        canvas *= (column[:, None] + row[None]) * np.float32(self.conditions.illumination[frame, channel])
        return canvas

    def render(self, frame: int) -> tuple[Counts, Counts]:
        """Give a frame as the camera records it: (aggregates, cells), uint16."""
        overrides = self.overrides
        if frame in overrides.constant_frames or frame in overrides.saturated_frames:
            value = 65535 if frame in overrides.saturated_frames else round(self.parameters.camera_offset_counts)
            plane = np.full(self.shape_yx, value, dtype=np.uint16)
            return plane, plane.copy()
        if frame in overrides.black_frames:
            dark = np.zeros(self.shape_yx, dtype=np.float32)
            return self._record(dark, frame, AGGREGATES_CHANNEL), self._record(dark, frame, CELLS_CHANNEL)
        return (
            self._record(self.clean_aggregates(frame), frame, AGGREGATES_CHANNEL),
            self._record(self.clean_cells(frame), frame, CELLS_CHANNEL),
        )

    def _record(self, clean: Image, frame: int, channel: int) -> Counts:
        """Shot noise (as a normal variate), read noise, gain, offset, 16 bit; noise of this frame and channel alone."""
        parameters = self.parameters
        gain = np.float32(parameters.camera_gain_counts_per_electron)
        random = self.spec.random(self.scene, _NOISE, frame, channel)
        noise = random.standard_normal(clean.shape, dtype=np.float32)
        variance = np.maximum(clean, 0) * gain
        variance += np.float32((parameters.read_noise_electrons * gain) ** 2)
        noise *= np.sqrt(variance, out=variance)
        noise += clean
        noise += np.float32(parameters.camera_offset_counts + 0.5)
        return np.clip(noise, 0, 65535, out=noise).astype(np.uint16)

    # ---------------------------------------------------------------------------------------------------------- truth
    def _truth_canvas(self) -> tuple[Image, Floats]:
        """Give an empty analysis canvas that covers all of the glass that is ever seen, and its origin there."""
        y0, x0, y1, x1 = self.domain
        step = self.spec.reduction
        origin = np.floor(np.array([y0, x0]) / step) * step
        shape = np.ceil((np.array([y1, x1]) - origin) / step).astype(int)
        return np.zeros(tuple(shape), dtype=np.float32), origin

    def reference_rendering(self) -> Image:
        """Give what lies on the glass in frame 0, ideally imaged, on the analysis grid in counts."""
        canvas = np.zeros(self.shape_yx, dtype=np.float32)
        fluorescence.paint_outside(
            canvas, aggregates=self.aggregates, frame=0, origin_yx=np.zeros(2), defocus_px=0.0, tilt=None
        )
        return reduce_by_mean(canvas, self.spec.reduction)

    def true_areas(self, frame: int, *, threshold_counts: float) -> AreaRows:
        """Give every aggregate's footprint: analysis px of the ideal rendering above the threshold.

        A pixel belongs to the aggregate that is brightest in it. The ideal rendering is noise-free, unshifted, in
        focus, unbleached, and shows what is in no cell and not washed away.

        Parameters
        ----------
        frame
            Index of the frame.
        threshold_counts
            Counts above background from which a pixel counts.
        """
        aggregates = self.aggregates
        pieces = fluorescence.outside_pieces(aggregates, frame)
        key = pieces.tobytes() + aggregates.anchor[frame].tobytes() + np.float64(threshold_counts).tobytes()
        if key == self._area_key and self._area_rows is not None:
            return self._area_rows
        total, origin = self._truth_canvas()
        brightest = np.zeros_like(total)
        owner = np.full(total.shape, -1, dtype=np.int32)
        elements = aggregates.elements
        for aggregate in np.unique(elements.aggregate[pieces]):
            own = pieces[elements.aggregate[pieces] == aggregate]
            low, patch = self._footprint(int(aggregate), own, aggregates.anchor[frame, aggregate] - origin, total.shape)
            box = (slice(low[0], low[0] + patch.shape[0]), slice(low[1], low[1] + patch.shape[1]))
            total[box] += patch
            better = patch > brightest[box]
            brightest[box][better] = patch[better]
            owner[box][better] = aggregate
        self._area_key, self._area_rows = key, self._measure(total, owner, origin, threshold_counts, frame)
        return self._area_rows

    def _footprint(
        self, aggregate: int, own: NDArray[np.int64], anchor: Floats, shape_yx: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], Image]:
        """Render one aggregate's pieces on the analysis grid; kept until something of it changes.

        Parameters
        ----------
        aggregate, own
            The aggregate, and its pieces on the glass.
        anchor
            Its position on the canvas in native px.
        shape_yx
            Shape of the canvas on the analysis grid, where the patch is cut.

        Returns
        -------
        tuple
            (2,) first row and column of the patch on the canvas, and the patch.
        """
        key = own.tobytes() + anchor.tobytes()
        known = self._footprints.get(aggregate)
        if known is not None and known[0] == key:
            return known[1], known[2]
        elements, step = self.aggregates.elements, self.spec.reduction
        position = anchor + elements.offset[own]
        reach = 5.0 * elements.sigma[own].max() + step
        low = np.floor((position.min(axis=0) - reach) / step).astype(np.int64)
        high = np.ceil((position.max(axis=0) + reach) / step).astype(np.int64)
        low = np.clip(low, 0, shape_yx)
        high = np.maximum(np.clip(high, 0, shape_yx), low)
        patch = np.zeros(tuple((high - low) * step), dtype=np.float32)
        if patch.size:
            fluorescence.paint_elements(
                patch, aggregates=self.aggregates, pieces=own, position=position - low * step,
                weight=np.ones(len(own)), extra_sigma=np.zeros(len(own)),
            )  # fmt: skip
            patch = reduce_by_mean(patch, step)
        else:
            patch = np.zeros((0, 0), dtype=np.float32)
        self._footprints[aggregate] = (key, low, patch)
        return low, patch

    def _measure(
        self, total: Image, owner: NDArray[np.int32], origin: Floats, threshold_counts: float, frame: int
    ) -> AreaRows:
        n = len(self.aggregates.gone)
        rows, columns = np.nonzero((total > threshold_counts) & (owner >= 0))
        owners = owner[rows, columns]
        n_px = np.bincount(owners, minlength=n)
        step = self.spec.reduction
        centroid = self.aggregates.anchor[frame].copy()
        some = n_px > 0
        for axis, index in enumerate((rows, columns)):
            mean = np.bincount(owners, weights=index, minlength=n)[some] / n_px[some]
            centroid[some, axis] = mean * step + (step - 1) / 2 + origin[axis]
        return AreaRows(
            np.arange(n), np.asarray(n_px * (step * self.spec.pixel_size_um) ** 2, dtype=np.float64), centroid
        )

    def label_image(self, frame: int) -> Counts:
        """Give the cells of a frame as it is seen (shifted), on the analysis grid; label = cell + 1."""
        if self._material is not None:
            return semi.label_real_cells(
                cells=self.cells, looks=self._real_looks, frame=frame, shape_yx=self.shape_yx,
                origin_yx=-self.conditions.shift_yx_px[frame], reduction=self.spec.reduction,
            )  # fmt: skip
        return phase.label_cells(
            cells=self.cells, frame=frame, shape_yx=self.shape_yx, origin_yx=-self.conditions.shift_yx_px[frame],
            reduction=self.spec.reduction,
        )  # fmt: skip


def reduce_by_mean(image: Image, step: int) -> Image:
    """Average over squares of ``step`` px."""
    height, width = image.shape
    if step == 1:
        return image
    return np.asarray(image.reshape(height // step, step, width // step, step).mean(axis=(1, 3), dtype=np.float32))
