"""The document of the registration benchmark as tables to read: Markdown, so that a page can hold them as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from phagostat.bench.robustness import HARDEST
from phagostat.bench.shifts import EXACT, NEW, OPENCV4

Document = dict[str, Any]

_NONE = "-"


def registration_text(document: Document) -> str:
    """Give all tables of a document."""
    parts = {
        "shifts": _shifts,
        "noise": _noise,
        "robustness": _robustness,
        "impossible": _impossible,
        "movie": _movie,
    }
    lines = list(_head(document))
    for name, found in document["tables"].items():
        lines += ["", *parts[name](found, document)]
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align a table; the first column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    rule = "|" + "|".join(":" + "-" * (w + 1) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return [line(header), rule, *(line(row) for row in rows)]


def _number(value: float | None, digits: int = 4) -> str:
    """Give a number with so many decimals; a large one with fewer."""
    if value is None:
        return _NONE
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"


def _small(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2g}" if abs(value) < 1 else _number(value, 2)


def _seconds(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def _head(document: Document) -> Iterator[str]:
    settings, machine = document["settings"], document["machine"]
    yield (
        f"Registration benchmark: {settings['side_px']} x {settings['side_px']} px, n = {settings['n']}"
        f" (methods to compare with: {settings['n_slow']}), seed {settings['seed']}"
    )
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield f"{machine['processor']}, {machine['cores']} cores; OpenCV threads: {machine['opencv_threads']}; {versions}"


def _shifts(found: Document, document: Document) -> Iterator[str]:
    yield f"## The paper's test: independent shifts in +-{found['reach_px']:g} px, all methods on the same pairs"
    yield ""
    yield f"Field: {found['field']}. Exact frames: shifted by fractions of a pixel, each fifth by whole"
    yield "pixels (cropped from a larger frame); black where the reference shows nothing, as in the paper."
    yield ""
    rows = []
    for method, figures in found["methods"].items():
        one = figures.get("exact")
        if one is None:
            rows.append([method, "0", *[_NONE] * 9])
            continue
        memory = found["peak_memory"].get(method, {}).get("peak_mib")
        rows.append(
            [
                method,
                str(one["n"]),
                f"{one['n_refused']} / {one['n_wrong']}",
                *_errors(one),
                _seconds(one["median_s"]),
                _seconds(one["mean_s"]),
                _seconds(one["cpu_median_s"]),
                "1" if method == "cecc" else f"{one['faster']:.3g}" if "faster" in one else _NONE,
                _NONE if memory is None else f"{memory:.0f}",
            ]
        )
    for method, paper in document["published"]["table_1"].items():
        errors = [f"{_number(paper[axis][0])} +- {_number(paper[axis][1])}" for axis in ("x_px", "y_px")]
        rows.append([f"paper: {method}", "1000", _NONE, *errors, _NONE, _seconds(paper["seconds"][0]), *[_NONE] * 3])
    yield from table(
        [
            "method", "pairs", "refused / wrong", "abs. error x, px", "abs. error y, px", "median time", "mean time",
            "median CPU", "x faster than cecc", "peak MiB",
        ],
        rows,
    )  # fmt: skip
    yield ""
    yield f"Paper: {document['published']['source']}."
    yield "Wrong: accepted and off by more than 1 px; * errors without these, where they are the fewer. Times are wall"
    yield "times on one thread, CPU is the processor's; ratios are of median wall times over the pairs that both"
    yield "methods met. Peak MiB: high-water mark of a fresh process, with libraries and frames."
    yield ""
    rows = []
    for method, figures in found["methods"].items():
        for case in ("exact", *EXACT, NEW):
            if case in figures:
                one = figures[case]
                part = "right_" if _mostly_right(one) else ""
                bound = one.get("bound_rms_yx_px", (None, None))
                rows.append(
                    [
                        f"{method}, {case}",
                        str(one["n"]),
                        f"{one['n_refused']} / {one['n_wrong']}",
                        _interval(one[part + "x"]),
                        _interval(one[part + "y"]),
                        _rms(one[part + "x"]),
                        _rms(one[part + "y"]),
                        f"{_small(bound[1])}, {_small(bound[0])}",
                    ]
                )
    yield from table(
        [
            "method, frames", "pairs", "refused / wrong", "signed error x, px [95 %]", "signed error y, px [95 %]",
            "RMS x", "RMS y", "CR bound x, y",
        ],
        rows,
    )  # fmt: skip
    yield ""
    yield f"{NEW}: not black but new (of a picture: its mirror image) where the reference shows nothing. CR bound: the"
    yield "Cramer-Rao bound for frames whose only noise is that pixels hold whole counts (the same in both after a"
    yield "shift by whole pixels); RMS and bound in px."
    rounding = found["rounding_of_opencv4"]
    if rounding is not None:
        errors = [
            f"{_number(mean)} +- {_number(sd)}"
            for mean, sd in zip(rounding["mean_abs_yx_px"], rounding["sd_abs_yx_px"], strict=True)
        ]
        yield ""
        yield f"{OPENCV4}: shifts rounded to 1/32 px as OpenCV 4 rounds them, black borders. The rounding alone, before"
        yield f"any method runs, is an absolute error of {errors[1]} px along x and {errors[0]} px along y."
        rows = []
        for method, figures in found["methods"].items():
            if OPENCV4 in figures:
                one = figures[OPENCV4]
                refused = f"{one['n_refused']} / {one['n_wrong']}"
                rows.append([method, str(one["n"]), refused, *_errors(one)])
        if rows:
            yield ""
            yield from table(
                ["method, OpenCV 4 warp", "pairs", "refused / wrong", "abs. error x, px", "abs. error y, px"], rows
            )


def _mostly_right(one: Document) -> bool:
    return bool(0 < one["n_wrong"] < (one["n"] - one["n_refused"]) / 2)


def _errors(one: Document) -> list[str]:
    """Give the absolute errors along x and y; without the wrong ones if these are the fewer, and a mark."""
    if _mostly_right(one):
        return [f"{_spread(one[name])} *" for name in ("right_x", "right_y")]
    return [_spread(one[name]) for name in ("x", "y")]


def _spread(axis: Document | None) -> str:
    if axis is None:
        return _NONE
    digits = 5 if axis["mean_abs_px"] < 0.01 else 4
    return f"{_number(axis['mean_abs_px'], digits)} +- {_number(axis['sd_abs_px'], digits)}"


def _interval(axis: Document | None) -> str:
    if axis is None:
        return _NONE
    low, high = axis["mean_low_px"], axis["mean_high_px"]
    if low is None:
        return f"{axis['mean_px']:+.5f}"
    return f"{axis['mean_px']:+.5f} [{low:+.5f}, {high:+.5f}]"


def _rms(axis: Document | None) -> str:
    return _NONE if axis is None else _small(axis["rms_px"])


def _noise(found: Document, document: Document) -> Iterator[str]:
    del document
    yield "## Noise: independent shot and read noise in both frames, against the Cramer-Rao bound"
    yield ""
    yield (
        f"Field: {found['field']}, not upsampled; {found['counts_per_electron']:g} counts per electron, read noise"
        f" {found['read_noise_counts']:g} counts."
    )
    yield ""
    rows = []
    for level in found["levels"]:
        for method, one in level["methods"].items():
            if not one["n"]:
                continue
            bound = one.get("bound_rms_yx_px", (None, None))
            ratio = one.get("error_to_bound_yx", (None, None))
            rows.append(
                [
                    f"light {level['light']:g}, {method}",
                    str(one["n"]),
                    f"{one['n_refused']} / {one['n_wrong']}",
                    _rms(one["x"]),
                    _rms(one["y"]),
                    f"{_small(bound[1])}, {_small(bound[0])}",
                    f"{_number(ratio[1], 2)}, {_number(ratio[0], 2)}",
                    _number(one.get("reported_to_true"), 2),
                ]
            )
    yield from table(
        [
            "light, method", "pairs", "refused / wrong", "RMS x, px", "RMS y, px", "CR bound x, y, px",
            "RMS (error / bound) x, y", "reported SE / true",
        ],
        rows,
    )  # fmt: skip


def _robustness(found: Document, document: Document) -> Iterator[str]:
    del document
    yield "## Robustness: the frame has changed since the reference, random shifts"
    for field, group in groupby(found["rows"], key=lambda row: row["field"]):
        by_condition: dict[str, dict[str, Document]] = {}
        for one in group:
            by_condition.setdefault(one["condition"], {})[one["method"]] = one
        methods = list(dict.fromkeys(method for found in by_condition.values() for method in found))
        header = [field]
        for method in methods:
            header += [f"{method}: median (max), px", "refused, wrong / n"]
        rows = []
        for condition, by_method in by_condition.items():
            row = [condition]
            for method in methods:
                found_here = by_method.get(method)
                row += _changed(found_here) if found_here is not None else [_NONE, _NONE]
            rows.append(row)
        counted = {c: by_method for c, by_method in by_condition.items() if c not in HARDEST}
        row = [f"**all but {', '.join(HARDEST)}**"]
        for method in methods:
            ones = [by_method[method] for by_method in counted.values() if method in by_method]
            refused, wrong, n = (sum(one[key] for one in ones) for key in ("n_refused", "n_wrong", "n"))
            row += [_NONE, f"**{refused}, {wrong} / {n}**"]
        rows.append(row)
        yield ""
        yield from table(header, rows)


def _changed(one: Document) -> list[str]:
    error = _NONE if one["median_px"] is None else f"{_small(one['median_px'])} ({_small(one['max_px'])})"
    return [error, f"{one['n_refused']}, {one['n_wrong']} / {one['n']}"]


def _impossible(found: Document, document: Document) -> Iterator[str]:
    del document
    sides = ", ".join(f"{side}" for side in found["sides_px"])
    yield f"## Impossible pairs: no shift brings these together (fields of {sides} px)"
    yield ""
    methods = list(found["methods"])
    kinds = list(dict.fromkeys(kind for figures in found["methods"].values() for kind in figures["kinds"]))
    rows = []
    for kind in kinds:
        cells = [found["methods"][method]["kinds"].get(kind) for method in methods]
        rows.append([kind, *(_NONE if c is None else f"{c['n_accepted']} of {c['n']}" for c in cells)])
    totals = [found["methods"][method] for method in methods]
    rows.append(["**all**", *(f"**{t['n_accepted']} of {t['n']}**" for t in totals)])
    yield from table(["accepted", *methods], rows)
    phase = found["phase_contrast"]
    yield ""
    if "absent" in phase:
        yield f"Phase contrast: not run ({phase['absent']})."
        return
    yield f"Phase contrast ({phase['movie']}, {phase['n_foreign_fields']} foreign fields):"
    yield ""
    rows = [[kind, f"{one['n_accepted']} of {one['n']}"] for kind, one in phase["kinds"].items()]
    rows.append(["**all**", f"**{phase['n_accepted']} of {phase['n']}**"])
    yield from table(["accepted", phase["method"]], rows)


def _movie(found: Document, document: Document) -> Iterator[str]:
    del document
    yield "## Real phase-contrast movie: known whole-pixel shifts, what is left after subtracting them"
    yield ""
    if "absent" in found:
        yield f"Not run: {found['absent']}."
        return
    yield (
        f"{found['folder']}: {found['n_frames']} frames, shifts within +-{found['largest_shift_px']} px, cropped and"
        " not wrapped; what is left is the stage's own drift and the error."
    )
    yield ""
    rows = []
    for method, one in found["methods"].items():
        if one["n"]:
            worst = [_NONE if one[axis] is None else _number(one[axis]["max_abs_px"], 2) for axis in "xy"]
            mean = [_NONE if one[axis] is None else f"{one[axis]['mean_px']:+.2f}" for axis in "xy"]
            bad = sum(1 for frame in found["frames"] if frame["method"] == method and frame["n_refused"] == frame["n"])
            rows.append([method, str(one["n"]), str(one["n_refused"]), str(bad), ", ".join(mean), ", ".join(worst)])
    yield from table(
        ["method", "pairs", "refused", "frames always refused", "mean residual x, y, px", "largest x, y, px"], rows
    )
