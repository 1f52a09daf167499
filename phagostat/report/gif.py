"""Animated GIF of overlays: one palette made for them, and of every frame only what differs from the last one.

References
----------
.. [1] CompuServe Inc., "Graphics Interchange Format, version 89a" (1990), https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image
from scipy.spatial import KDTree

from phagostat.report.overlays import AGGREGATES, CELLS, FILL, REJECTED, WHITE, Colour, Picture

DEFAULT_WIDTH_PX: Final = 480
"""Width where none was asked for, unless the image is smaller or the movie long."""
LEAST_DEFAULT_WIDTH_PX: Final = 200
EXPECTED_BYTES_PER_PX: Final = 0.7
"""Of a pixel in a frame: 0.6 of real phase contrast, 0.7 of simulated, at 480 px."""
LARGE_BYTES: Final = 20_000_000
"""Pages and chat programs refuse GIFs of more, or stumble over them."""
MAX_WIDTH_PX: Final = 1024
"""The format codes noise badly: a wider movie of hundreds of frames would be too large for what shows GIFs."""
MAX_FPS: Final = 50.0
"""A frame lasts whole hundredths of a second; browsers slow down what is shorter than two of them."""

GREYS: Final = 64
COLOURS: Final = 128
TRANSPARENT: Final = COLOURS - 1
"""Index that leaves what is shown as it is."""
_BITS: Final = 7
_KEEP: Final = 1  # disposal method: the next frame is drawn over this one


def default_width_px(shape_yx: tuple[int, int], n_frames: int) -> int:
    """Width of a GIF that nothing was said of: so that it is expected to stay below :data:`LARGE_BYTES`.

    Parameters
    ----------
    shape_yx
        Height and width of the images.
    n_frames
        How many are shown.
    """
    height, width = shape_yx
    room = math.sqrt(LARGE_BYTES / (EXPECTED_BYTES_PER_PX * max(n_frames, 1)) * width / height)
    return min(width, DEFAULT_WIDTH_PX, max(LEAST_DEFAULT_WIDTH_PX, int(room)))


def write_gif(path: Path, picture: Callable[[int], Picture], n_frames: int, fps: float) -> None:
    """Write pictures as an animated GIF that runs on and on.

    Parameters
    ----------
    path
        The file.
    picture
        Gives the (y, x, 3) uint8 picture of a position; called once for each, in order.
    n_frames
        How many there are.
    fps
        Frames shown a second. A frame lasts whole hundredths of a second, some one more than others, so that the
        movie as a whole keeps to it.

    Notes
    -----
    All frames have the same :data:`COLOURS` colours, so that nothing flickers. A pixel whose grey differs from the
    one shown by no more than a step of the palette (4 of 256) is left as it is, which is what keeps noise from
    being coded anew in every frame; differences do not add up, since they are against what is shown.
    """
    with path.open("wb") as file:
        shown: NDArray[np.uint8] | None = None
        for position in range(n_frames):
            drawn = _indices(picture(position))
            if shown is None:
                file.write(_header(drawn.shape[1], drawn.shape[0]))
                shown = drawn.copy()
            else:
                same = _alike(drawn, shown)
                np.copyto(shown, drawn, where=~same)
                drawn = np.where(same, np.uint8(TRANSPARENT), drawn)
            begin, end = (round(100 * at / fps) for at in (position, position + 1))
            file.write(_coded(drawn, 10 * (end - begin)))
        file.write(b";")


@cache
def palette() -> NDArray[np.uint8]:
    """Give the (:data:`COLOURS`, 3) colours: greys, then cells, aggregates and marks as they lie over greys."""
    colours = [_mixed(WHITE, (0, 0, 0), i / (GREYS - 1)) for i in range(GREYS)]
    for colour, opacity, n in (
        (AGGREGATES, FILL, 21),  # insides
        (AGGREGATES, 0.75, 7),  # the soft edges of lines
        (AGGREGATES, 1.0, 1),
        (CELLS, 0.25, 7),
        (CELLS, 0.5, 8),
        (CELLS, 0.75, 6),
        (CELLS, 1.0, 1),
        (REJECTED, 0.5, 4),
        (REJECTED, 0.9, 4),
        (REJECTED, 1.0, 1),
    ):
        greys = np.linspace(0, 255, n) if n > 1 else [0.0]
        colours += [_mixed(colour, (grey, grey, grey), opacity) for grey in greys]
    colours += [_mixed(WHITE, REJECTED, share) for share in (0.25, 0.5, 0.75)]
    colours.append((0, 0, 0))  # of the index that shows nothing
    found = np.array(colours, np.uint8)
    found.setflags(write=False)
    return found


def _mixed(over: Colour, under: tuple[float, float, float], opacity: float) -> Colour:
    red, green, blue = (round(opacity * a + (1 - opacity) * b) for a, b in zip(over, under, strict=True))
    return red, green, blue


@cache
def _nearest() -> NDArray[np.uint8]:
    """For red, green and blue of :data:`GREYS` steps each the index of the nearest colour."""
    steps = np.linspace(0, 255, GREYS)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    _, index = KDTree(palette()[:TRANSPARENT].astype(np.float64)).query(cube)
    found: NDArray[np.uint8] = index.astype(np.uint8)
    return found


def _indices(picture: Picture) -> NDArray[np.uint8]:
    """The nearest colour for every pixel; no dithering, which would flicker and code badly."""
    red, green, blue = np.moveaxis((picture.astype(np.uint16) * (GREYS - 1) + 127) // 255, -1, 0)
    found: NDArray[np.uint8] = _nearest()[red, green, blue]
    return found


def _alike(drawn: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a pixel can stay as it is: the same colour, or a grey next to it."""
    near = np.abs(drawn.astype(np.int16) - shown) <= 1
    found: NDArray[np.bool_] = (drawn == shown) | (near & (drawn < GREYS) & (shown < GREYS))
    return found


def _header(width: int, height: int) -> bytes:
    """Signature, screen, colours, and the extension that browsers take for "for ever"."""
    screen = struct.pack("<HHBBB", width, height, 0x80 | (_BITS - 1) << 4 | (_BITS - 1), 0, 0)
    forever = b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", 0) + b"\0"
    return b"GIF89a" + screen + palette().tobytes() + forever


def _coded(drawn: NDArray[np.uint8], duration_ms: int) -> bytes:
    """A frame: its control, its place and its pixels, cropped to what is not transparent."""
    rows, columns = (np.flatnonzero((drawn != TRANSPARENT).any(axis=axis)) for axis in (1, 0))
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 1)
    left, right = (int(columns[0]), int(columns[-1]) + 1) if columns.size else (0, 1)
    part = Image.fromarray(np.ascontiguousarray(drawn[top:bottom, left:right]))  # grey: pixels are indices already
    parts = GifImagePlugin.getdata(part, (left, top), duration=duration_ms, transparency=TRANSPARENT, disposal=_KEEP)
    data = b"".join(parts)
    parts.clear()  # Pillow's list belongs to a class of its own, which lives on until garbage is collected
    return data
