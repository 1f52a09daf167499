"""What is frozen from a scene's reference frame, rebuilt from the store where it is needed and kept per process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.preparation import image_roles, reference_path
from phagostat.engine.work import FramePlanes, Needed, TaskContext
from phagostat.kernels.aggregate_overlap import Territories, prepare_territories
from phagostat.kernels.aggregate_survival import SurvivalReference, prepare_survival
from phagostat.kernels.aggregates import label_aggregates
from phagostat.kernels.bleaching import Footprints, prepare_footprints
from phagostat.kernels.normalisation import reduce_area
from phagostat.kernels.reference import AggregateReference, CellReference, aggregate_reference, cell_reference
from phagostat.kernels.translation import (
    GlassReference,
    TranslationReference,
    prepare_glass_reference,
    prepare_reference,
)
from phagostat.kernels.vignette import uneven_glow, without_glow, without_vignette
from phagostat.model.acquisition import ChannelRole
from phagostat.store.arrays import read_plane
from phagostat.store.commits import WHOLE
from phagostat.store.digests import value_digest

KEPT_SCENES = 4
"""Scenes whose frozen parts a process keeps: blocks come scene after scene, a few are in hand at a time."""

FOOTPRINT_SHARE = 0.4
"""Share of the aggregate threshold that footprints for the bleaching factor are taken at: fainter aggregates fade as
the others do, and there are one to two times as many of them."""

_Part = TypeVar("_Part")
_kept: OrderedDict[str, dict[str, Any]] = OrderedDict()


class SceneReference:
    """The frozen parts of a scene, each made at its first use.

    Parameters
    ----------
    context
        The task's context, with the committed ``reference`` of its scene among its needs.
    """

    def __init__(self, context: TaskContext) -> None:
        self.context = context
        self.settings = context.job.settings
        self.reduction = context.job.known.reduction
        needed = context.needs["reference"][WHOLE]
        self.usable = needed.verdict == "ok"
        self.needed: Needed = needed
        identity = value_digest([str(context.job.layout.images), context.scene_index, needed.content])
        if identity not in _kept:
            while len(_kept) >= KEPT_SCENES:
                _kept.popitem(last=False)
            _kept[identity] = {}
        _kept.move_to_end(identity)
        self._parts = _kept[identity]

    @property
    def frame(self) -> int:
        """Index of the reference frame."""
        return int(self.needed.record["frame"])

    def plane(self, role: ChannelRole) -> NDArray[Any]:
        """Raw reference plane, (y, x) native."""
        position = image_roles(self.context.job.known).index(role)
        return self._part(
            f"plane {role}",
            lambda: read_plane(self.context.job.layout.images, reference_path(self.context.scene_index), (position,)),
        )

    @property
    def white_level(self) -> int:
        """Counts at which the camera saturates."""
        return int(self.needed.record["white_level_counts"])

    @property
    def loss(self) -> float:
        """What aggregates are freed of before they are measured: how much darker the lamp is at the field's sides.

        0 where the published rule is kept: its threshold is one of the grey levels as they are.
        """
        if self.settings.aggregates.threshold_rule == "normalised":
            return 0.0
        return float(self.needed.record["vignette_loss"])

    def even(self, frame: FramePlanes, plane: NDArray[np.integer]) -> NDArray[np.uint16]:
        """A frame's aggregate plane on the analysis grid under an even lamp, made once for all steps of a block."""
        return frame.once("even aggregates", lambda: without_vignette(plane, loss=self.loss))

    def aggregates(self) -> AggregateReference:
        """What the aggregate channel is normalised by."""
        s = self.settings.normalisation
        low, high = s.aggregates_low_percentile, s.aggregates_high_percentile
        return self._part(
            f"aggregates {low} {high} {self.reduction}",
            lambda: aggregate_reference(
                self.plane(ChannelRole.AGGREGATES), factor=self.reduction, low_percentile=low, high_percentile=high
            ),
        )

    def cells(self) -> CellReference:
        """What the cell channel is normalised by."""
        s = self.settings.normalisation
        sigma_px = s.flat_field_sigma_um / self.context.job.known.analysis_pixel_size_um
        options: dict[str, Any] = {
            "flat_field_sigma_px": sigma_px or None,
            "mean": s.cells_grey_mean,
            "sd": s.cells_grey_sd,
            "low_percentile": s.cells_low_percentile,
            "high_percentile": s.cells_high_percentile,
        }
        return self._part(
            f"cells {options} {self.reduction}",
            lambda: cell_reference(self.plane(ChannelRole.CELLS), factor=self.reduction, **options),
        )

    def translation(self) -> TranslationReference:
        """What shifts are estimated against."""
        radius = self.settings.registration.search_radius_px
        return self._part(
            f"translation {radius}",
            lambda: prepare_reference(self.plane(ChannelRole.AGGREGATES), search_radius_px=radius),
        )

    def glass(self) -> GlassReference:
        """What shifts are estimated against where too few aggregates are left: what is fixed on the glass."""
        radius = self.settings.registration.search_radius_px
        return self._part(
            f"glass {radius}",
            lambda: prepare_glass_reference(self.plane(ChannelRole.CELLS), search_radius_px=radius),
        )

    def even_aggregates(self) -> AggregateReference:
        """Grey levels of the aggregate channel under an even lamp."""
        return self._part(
            f"even aggregates {self.loss} {self.reduction}", lambda: aggregate_reference(self._even_plane(), factor=1)
        )

    def footprints(self, threshold_counts: float) -> Footprints:
        """Where the reference aggregates lie, and their light."""
        pixel_size_um = self.context.job.known.analysis_pixel_size_um

        def make() -> Footprints:
            even, frozen = self._even_plane(), self.even_aggregates()
            found = label_aggregates(
                even,
                background=frozen.background_counts,
                threshold_counts=FOOTPRINT_SHARE * threshold_counts,
                pixel_size_um=pixel_size_um,
            )
            return prepare_footprints(
                found.labels, even, noise_counts=frozen.noise_counts, white_level_counts=self.white_level
            )

        return self._part(f"footprints {threshold_counts} {pixel_size_um} {self.reduction} {self.loss}", make)

    def territories(self, threshold_counts: float) -> tuple[Territories, SurvivalReference]:
        """The part of the glass that belongs to each reference aggregate, and its pixels."""
        pixel_size_um = self.context.job.known.analysis_pixel_size_um

        def make() -> tuple[Territories, SurvivalReference]:
            even = self._even_plane()
            background = self.even_aggregates().background_counts
            glow = uneven_glow(even)
            # the small ones too: what is eaten of them is eaten
            labels = label_aggregates(
                without_glow(even, glow),
                background=background,
                threshold_counts=threshold_counts,
                pixel_size_um=pixel_size_um,
            ).labels
            territories = prepare_territories(labels, even, background=background)
            return territories, prepare_survival(
                even,
                labels,
                territories,
                background=background,
                threshold_counts=threshold_counts,
                loss=self.loss,
                unevenness=glow,
            )

        return self._part(f"territories {threshold_counts} {pixel_size_um} {self.reduction} {self.loss}", make)

    def _even_plane(self) -> NDArray[np.uint16]:
        reduced = reduce_area(self.plane(ChannelRole.AGGREGATES), factor=self.reduction)
        return without_vignette(reduced, loss=self.loss)

    def _part(self, name: str, make: Callable[[], _Part]) -> _Part:
        if name not in self._parts:
            self._parts[name] = make()
        part: _Part = self._parts[name]
        return part
