"""Movies of a scene's overlays: MP4 (H.264) to show, animated WebP to put into a page, GIF for what takes neither."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from phagostat.model.errors import SettingsError, StoreError
from phagostat.report.destinations import whole_file
from phagostat.report.finished import FinishedOutput
from phagostat.report.gif import MAX_FPS as MAX_GIF_FPS
from phagostat.report.gif import MAX_WIDTH_PX, default_width_px, write_gif
from phagostat.report.overlays import Picture, check_width, overlay_frame
from phagostat.report.selection import MOVIE_KINDS

Encoder = Callable[[Path, Callable[[int], Picture], int, float], None]

SUFFIXES: Final = tuple(f".{kind}" for kind in MOVIE_KINDS)
MIN_FPS: Final = 0.1
MAX_FPS: Final = 120.0
MP4_QUALITY: Final = 22
"""Constant rate factor of H.264: 18 cannot be told from the original, 23 is the encoder's default."""
WEBP_QUALITY: Final = 80

_BT709: Final = 1  # H.273's code of these primaries, transfer curve and matrix
_LIMITED_RANGE: Final = 1


def write_movie(
    output: FinishedOutput,
    scene: int,
    path: Path,
    *,
    fps: float = 10.0,
    every: int = 1,
    width_px: int | None = None,
    frames: Sequence[int] | None = None,
    registered: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write a scene as a movie; give its number of frames.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    path
        The movie; its suffix, of :data:`SUFFIXES`, says which kind. A file that is there is replaced.
    fps
        Frames shown a second. A GIF's frames last whole hundredths of a second.
    every
        Show every n-th frame only.
    width_px
        Width of the movie; the analysis grid's where None, of a GIF at most
        :func:`phagostat.report.gif.default_width_px`. MP4 pads odd sizes by a row or column.
    frames
        Those of these frames; all where None.
    registered
        Move frames so that the glass stands still.
    progress
        Told after each frame how many are done, and of how many.

    Raises
    ------
    SettingsError
        If an option is out of range, there is nothing to show, or what writes MP4 is not installed.
    StoreError
        If the movie cannot be written or a chunk cannot be read.

    Notes
    -----
    Frames are drawn, encoded and forgotten one by one; a WebP is kept in memory as far as it is encoded. The same
    results, options and versions of the encoders give the same bytes: one thread, fixed settings, no dates.
    """
    encode = check_movie_options(path, fps=fps, every=every, width_px=width_px)
    shown = list(range(len(output.scene(scene).frames)) if frames is None else frames)[::every]
    if not shown:
        raise SettingsError("no frames are left for a movie", where=f"{output.path} scene {scene}", found="none")
    if encode is write_gif and width_px is None:
        width_px = default_width_px(output.scene(scene).shape_yx, len(shown))

    def picture(position: int) -> Picture:
        drawn = overlay_frame(output, scene, shown[position], registered=registered, width_px=width_px, legend=True)
        progress(position + 1, len(shown))
        return drawn

    with whole_file(path) as temporary:
        encode(temporary, picture, len(shown), fps)
    return len(shown)


def check_movie_options(path: Path, *, fps: float, every: int, width_px: int | None = None) -> Encoder:
    """Check what is asked of a movie; give what writes it.

    Raises
    ------
    SettingsError
        If an option is out of range, or what writes such movies is not installed.
    """
    encoders: dict[str, Encoder] = {".mp4": _write_mp4, ".webp": _write_webp, ".gif": write_gif}
    encode = encoders.get(path.suffix.lower())
    if encode is None:
        raise SettingsError(
            "no movie of this kind can be written",
            where=path,
            found=path.suffix,
            remedy=f"choose {' or '.join(SUFFIXES)}",
        )
    fastest = MAX_GIF_FPS if encode is write_gif else MAX_FPS
    if not MIN_FPS <= fps <= fastest:
        raise SettingsError(
            "a movie cannot have this speed", where="fps", found=fps, remedy=f"choose {MIN_FPS:g} to {fastest:g}"
        )
    if every < 1:
        raise SettingsError("every n-th frame needs a whole n", where="every", found=every, remedy="choose 1 or more")
    check_width(width_px)
    if encode is write_gif and width_px is not None and width_px > MAX_WIDTH_PX:
        raise SettingsError(
            "a GIF cannot have this width",
            where="width_px",
            found=width_px,
            remedy=f"choose at most {MAX_WIDTH_PX}, or MP4 or WebP, which code wide movies far better",
        )
    if encode is _write_mp4:
        _pyav()
    return encode


class _Reel(Image.Image):
    """Pictures as one image of many frames, each drawn when Pillow asks for it, so that they are never all held."""

    format = None

    def __init__(self, picture: Callable[[int], Picture], n_frames: int) -> None:
        super().__init__()
        self.n_frames = n_frames
        self._picture = picture
        self._position = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame != self._position and frame < self.n_frames:
            still = Image.fromarray(self._picture(frame))
            self.im, self._mode, self._size, self._position = still.im, still.mode, still.size, frame

    def tell(self) -> int:
        return self.n_frames  # Pillow goes back to where it began: not to the first frame, which would be drawn again


def _write_webp(path: Path, picture: Callable[[int], Picture], n_frames: int, fps: float) -> None:
    reel = _Reel(picture, n_frames)
    reel.save(path, "WEBP", save_all=True, duration=1000 / fps, loop=0, quality=WEBP_QUALITY, method=1)


def _write_mp4(path: Path, picture: Callable[[int], Picture], n_frames: int, fps: float) -> None:
    av = _pyav()
    try:
        with av.open(
            str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
        ) as container:
            stream = None
            for position in range(n_frames):
                drawn = _even(picture(position))
                if stream is None:
                    stream = _h264(container, drawn.shape[1], drawn.shape[0], fps)
                frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                frame.pts = position
                frame.time_base = stream.codec_context.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None)) if stream is not None else None
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):
            raise
        raise StoreError(
            "the movie cannot be encoded", where=path, found=error, remedy="choose another width"
        ) from error


def _h264(container: Any, width: int, height: int, fps: float) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate)
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context.thread_count = 1
    context.time_base = 1 / rate
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE
    # a key frame every two seconds at most, so that players can jump
    stream.options = {
        "crf": str(MP4_QUALITY),
        "preset": "veryfast",
        "g": str(max(1, round(2 * fps))),
        "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0",
    }
    return stream


def _even(picture: Picture) -> Picture:
    """A picture of even sizes, its last row or column doubled where need be: 4:2:0 colours need it."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    padded: Picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(padded)


def _pyav() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise SettingsError(
            "MP4 needs PyAV",
            where="movies",
            found="no package called av",
            remedy='install it with pip install "phagostat[movies]", or choose .webp',
        ) from error
