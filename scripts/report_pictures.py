"""Look at a report in headless Chromium: screenshots, printed pages, and how wide it is.

`python scripts/report_pictures.py results/pilot/report.html docs/figures` writes report.png, the
first screen at 1280 x 900, and report_dark.png, that of a telephone 390 wide with a dark theme, and
prints the measurements.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DARK = "--blink-settings=preferredColorScheme=0"
PHONE, DESK = (390, 844), (1280, 900)
# A frame of the wanted width: a window of the browser itself may not be that narrow.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0; }}</style>
<iframe id="page" src="{page}" width="{width}" height="{height}" style="border: 0"></iframe>
<pre id="found"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  if ({opened}) for (const part of page.querySelectorAll("details")) part.open = true;
  const wide = [...page.body.querySelectorAll("*")].filter((one) =>
    one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest(".wide, pre"));
  document.getElementById("found").textContent = JSON.stringify({{
    scheme: frame.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches,
    width: Math.max(root.scrollWidth, ...wide.map((one) => one.getBoundingClientRect().right)),
    height: root.scrollHeight,
    beyond: [...new Set(wide.map((one) => one.tagName.toLowerCase()))],
    sorted: page.querySelectorAll("th button").length,
    tables: [...page.querySelectorAll("a.csv")].map((one) => [one.download, one.href]),
    sections: Object.fromEntries([...page.querySelectorAll("header, section")].map((one) =>
      [one.id, Math.round(one.getBoundingClientRect().height)])),
  }});
}};
</script>"""


def browser() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def measured(page: Path, size: tuple[int, int] = PHONE, opened: bool = False) -> dict[str, Any]:
    """What a page needs at a size of the window, with all its folded parts opened if asked.

    Returns:
        `width` and `height` of all its content, pixels; `beyond`, the kinds of elements that reach
        beyond the window; `tables`, name and link of each CSV; `sections`, their heights.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = _run(["--dump-dom", *_framed(Path(folder), page, size, opened)])
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', text, re.DOTALL)
    result = json.loads(found.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert isinstance(result, dict)
    return result


def photographed(
    page: Path, picture: Path, size: tuple[int, int] = DESK, dark: bool = False
) -> None:
    """A screenshot of the page's first screen."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = _framed(Path(folder), page, size, False)
        window = f"--window-size={max(size[0], 500)},{size[1]}"
        options = [DARK] if dark else []
        _run(
            [f"--screenshot={picture.resolve()}", window, "--hide-scrollbars", *options, *arguments]
        )
    _cropped(picture, size)


def printed(page: Path, pdf: Path) -> int:
    """The page as PDF; the number of its pages."""
    _run([f"--print-to-pdf={pdf.resolve()}", "--no-pdf-header-footer", page.resolve().as_uri()])
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


def _framed(folder: Path, page: Path, size: tuple[int, int], opened: bool) -> list[str]:
    frame = folder / "frame.html"
    values = {"page": page.resolve().as_uri(), "width": size[0], "height": size[1]}
    frame.write_text(FRAME.format(**values, opened=str(opened).lower()), encoding="utf-8")
    return ["--allow-file-access-from-files", "--virtual-time-budget=10000", frame.as_uri()]


def _run(arguments: list[str]) -> str:
    path = browser()
    if path is None:
        raise SystemExit(f"error: no browser found: install one of {', '.join(BROWSERS)}")
    command = [path, "--headless", "--no-sandbox", "--disable-gpu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def _cropped(picture: Path, size: tuple[int, int]) -> None:
    from PIL import Image

    with Image.open(picture) as shown:
        whole = shown.convert("RGB").crop((0, 0, *size))
    whole.quantize(256).save(picture, optimize=True)


def main() -> None:
    """Write the screenshots and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path, help="of the screenshots")
    options = parser.parse_args()
    photographed(options.report, options.folder / "report.png")
    photographed(options.report, options.folder / "report_dark.png", PHONE, dark=True)
    for name, size in (("1280 x 900", DESK), ("390 x 844", PHONE)):
        for opened in (False, True):
            found = measured(options.report, size, opened)
            print(
                f"{name}{', all opened' if opened else ''}: width {found['width']:.0f}, "
                f"{found['height'] / size[1]:.1f} screens, beyond: {found['beyond']}"
            )
    print("heights at 1280 wide:", measured(options.report, DESK)["sections"])
    with tempfile.TemporaryDirectory() as folder:
        print("printed pages:", printed(options.report, Path(folder) / "report.pdf"))


if __name__ == "__main__":
    main()
