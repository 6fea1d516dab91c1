"""Pictures of MLflow and optuna-dashboard for docs/dashboards.md, after `make repro`.

Each is served as `make ui` and `make dashboard` do, and opened in the system's Chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
UI, DASHBOARD = "spurious.tracking.ui", "spurious.search.dashboard"
PATIENCE = 120  # seconds for a server to answer, or a page to be drawn
SIZE: Any = {"width": 1400, "height": 800}
TALL: Any = {"width": 1400, "height": 1420}  # down to the card of the best trial
COLOURS = 128  # of a picture: enough for a page


def browser() -> str | None:
    """The system's Chromium, if it has one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def served(module: str, folder: Path) -> Iterator[str]:
    """Serve what is below a folder; gives what the server printed when it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, "--port", str(port)]
    server = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert server.stdout is not None
    try:
        printed = server.stdout.readline().decode()
        _await(f"http://127.0.0.1:{port}", server)
        yield printed
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _await(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    for _ in range(2 * PATIENCE):
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=PATIENCE).close()
            return
        if server.poll() is not None:
            break
        time.sleep(0.5)
    raise RuntimeError(f"{address} does not answer")


@contextmanager
def opened() -> Iterator[tuple[Any, list[str]]]:
    """A page of a new browser, and a list of what it asks of other machines."""
    from playwright.sync_api import sync_playwright

    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE)
        page.set_default_timeout(1000 * PATIENCE)
        page.on("request", lambda asked: _note(asked.url, elsewhere))
        yield page, elsewhere
        chromium.close()


def _note(url: str, elsewhere: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        elsewhere.append(url)


def open_attacks(page: Any, address: str) -> None:
    """The view of MLflow, when its charts are drawn; its assistant is closed."""
    page.goto(address)
    page.get_by_text("Attacks of the last run").wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    close = page.get_by_text("MLflow Assistant").locator("xpath=ancestor::*[.//button][1]//button")
    if close.count():
        close.last.click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)  # charts take the width that became free


def open_table(page: Any, address: str) -> None:
    """The same view as a table."""
    page.goto(address.replace("&compareRunsMode=CHART", ""))
    page.locator("[role=gridcell] a").first.wait_for()


def open_study(page: Any, address: str, name: str) -> None:
    """A study of optuna-dashboard, from the list of all."""
    page.goto(address)
    page.get_by_text(name).first.click()
    page.wait_for_timeout(3000)  # its charts have no sign of their own
    page.get_by_text("Best Trial").first.wait_for()


def open_note(page: Any) -> None:
    """The note of the study that is open."""
    page.goto(f"{page.url}/note")
    page.get_by_text("The worst systematic").first.wait_for()


def address_in(printed: str) -> str:
    """The address in a line that a server printed."""
    return "http" + printed.strip().split("http", 1)[1]


def save(page: Any, name: str) -> None:
    """Keep a small picture of what is seen."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    path = FIGURES / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def main(folder: Path, scale: str) -> None:
    """Take all pictures of what a folder has."""
    with opened() as (page, _):
        with served(UI, folder) as printed:
            open_attacks(page, address_in(printed))
            save(page, "mlflow_attacks")
            open_table(page, address_in(printed))
            save(page, "mlflow_table")
        with served(DASHBOARD, folder) as printed:
            page.set_viewport_size(TALL)
            open_study(page, address_in(printed), f"{scale}-calibration")
            save(page, "optuna_study")
            page.set_viewport_size(SIZE)
            open_note(page)
            save(page, "optuna_note")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT, "pilot")
