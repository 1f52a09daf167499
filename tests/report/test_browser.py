"""The report in a real browser: nothing sticks out on a telephone, or on a wide screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from phagostat.report.page import write_report

from .written import WrittenScene, write_output

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)

# a headless window is never narrower than 500 px, a frame inside it can be
MEASURE = """<!DOCTYPE html><title>unmeasured</title><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:900px" src="{page}"></iframe>
<script>
document.getElementById("page").onload = (event) => {{
  const inside = event.target.contentDocument;
  for (const details of inside.querySelectorAll("details")) details.open = true;
  const root = inside.documentElement;
  const body = parseFloat(inside.defaultView.getComputedStyle(inside.body).fontSize);
  document.title = ["measured", root.clientWidth, root.scrollWidth, inside.images.length, body].join(" ");
}};
</script>"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")


def measured(page: Path, width: int, folder: Path) -> tuple[int, int, int, float]:
    """Width of the window and of the page in it, number of pictures, size of letters."""
    frame = folder / f"{page.stem}-{width}.html"
    frame.write_text(MEASURE.format(width=width, page=page.as_uri()), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               f"--user-data-dir={folder / 'profile'}", "--window-size=1500,1000", "--virtual-time-budget=8000",
               "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>measured (\d+) (\d+) (\d+) ([\d.]+)</title>", done.stdout)
    assert found is not None, done.stdout[:500]
    return int(found[1]), int(found[2]), int(found[3]), float(found[4])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    long = "a_very_long_name_without_any_space_in_it_" * 4
    scenes = [
        WrittenScene(210, long, states=dict.fromkeys(range(0, 200, 7), "blurred")),
        WrittenScene(210, "second", scene={"accepted": False, "quality_reason": long}),
        WrittenScene(3, "short", states={0: "missing", 1: "black"}),
    ]
    one = write_output(root / "out" / "one", scenes, source=f"/{long}/{long}.czi")
    write_output(root / "out" / long, [WrittenScene(1)])
    index = write_report(root / "out", movies=False)
    return {"page": one / "report.html", "index": index}


@pytest.mark.parametrize("width", [320, 400, 1400])
@pytest.mark.parametrize("name", ["page", "index"])
def test_nothing_sticks_out_sideways(pages: dict[str, Path], tmp_path: Path, name: str, width: int) -> None:
    window, page, n_pictures, letters = measured(pages[name], width, tmp_path)
    assert width - 20 <= window <= width
    assert page <= window
    assert n_pictures == (6 if name == "page" else 0) - (name == "page")  # the short scene has one usable frame
    assert letters >= 16
