"""The report in a browser: nothing reaches beyond a telephone, and its tables hold CSV."""

import csv
import io
import runpy
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import sync_playwright

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "report_pictures.py"))
pytestmark = [
    pytest.mark.ui,
    pytest.mark.skipif(SCRIPT["browser"]() is None, reason="no Chromium"),
]


@pytest.fixture(scope="module")
def report(small_report, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(small_report, encoding="utf-8")
    return path


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)])
def test_nothing_reaches_beyond_the_window(report, size, opened):
    found = SCRIPT["measured"](report, size, opened)
    assert (found["beyond"], found["width"] <= size[0]) == ([], True)


def test_a_page_that_is_too_wide_is_seen(report):
    wide = report.with_name("wide.html")
    text = report.read_text().replace("<main>", '<main><div style="width: 590px">590</div>')
    wide.write_text(text)
    found = SCRIPT["measured"](wide, (390, 844))
    assert "div" in found["beyond"] and found["width"] > 590


def test_each_section_is_one_screen(report):
    assert max(SCRIPT["measured"](report, (1366, 768))["sections"].values()) <= 768


def test_tables_are_sortable_and_hold_csv(report, small_context):
    found = SCRIPT["measured"](report, (1280, 900))
    tables = {name: unquote(link.partition(",")[2]) for name, link in found["tables"]}
    rows = list(csv.DictReader(io.StringIO(tables["damage.csv"])))
    assert rows[0]["perturbation"] == "BIM"
    assert len(rows) == len(small_context["attacks"])
    kl = small_context["attacks"]["bim"]["kl_perturbed_clean"]
    title = "KL(perturbed ‖ clean)"
    assert [float(rows[0][f"{title}{end}"]) for end in ("", " low", " high")] == list(kl.values())
    assert found["sorted"] > 50
    shown = [one for one in rows[0] if one.endswith(", as shown")]
    assert shown == ["change of a map’s mean, as shown"]
    assert rows[0][shown[0]].endswith("at most 2 %")
    share = small_context["attacks"]["bim"]["mean_power_change_raw"]["mean"]
    assert float(rows[0]["max |ΔP/P|, raw (as a fraction)"]) == share
    words = csv.DictReader(io.StringIO(tables["defences_checks.csv"]))
    assert any(cell.startswith(("ok", "FAILED")) for row in words for cell in row.values())
    beyond = list(csv.DictReader(io.StringIO(tables["beyond_power.csv"])))
    assert [row["RMSE of compact 1 over that of"] for row in beyond] == ["likelihood"]


def test_print_takes_few_pages_and_dark_is_dark(report, tmp_path):
    assert SCRIPT["printed"](report, tmp_path / "report.pdf") <= 12
    shades = {}
    for dark in (False, True):
        picture = tmp_path / f"{dark}.png"
        SCRIPT["photographed"](report, picture, (390, 844), dark=dark)
        from PIL import Image

        shades[dark] = Image.open(picture).convert("L").getpixel((3, 3))
    assert shades[False] > 240 and shades[True] < 40


@pytest.fixture
def opened(report):
    """The page at the size of a telephone, in Playwright's hands."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=SCRIPT["browser"](), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(report.as_uri())
        yield page
        browser.close()


def test_titles_of_tables_are_printed_again_on_each_page(opened):
    """Chromium leaves a button out where it repeats a title, but not its text alone."""
    display = "getComputedStyle(document.querySelector('th button')).display"
    assert opened.evaluate(display) != "contents"
    opened.emulate_media(media="print")
    assert opened.evaluate(display) == "contents"


@pytest.mark.parametrize("how", ["click", "key"])
def test_a_figure_is_enlarged_on_a_telephone(opened, how):
    image = opened.locator("#figure-headline img:visible")
    before = image.bounding_box()["width"]
    image.click() if how == "click" else image.press("Enter")
    assert image.bounding_box()["width"] > 2 * before
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_slider_changes_the_picture_at_once(opened):
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    picture = "document.querySelector('.flip img').src"
    assert opened.evaluate("document.querySelector('.flip :checked').value") == "perturbed"
    before = opened.evaluate(picture)
    opened.locator(".flip [type=range]").press("End")
    assert opened.evaluate(picture) != before


def test_a_click_on_a_title_sorts_by_numbers_and_a_second_turns_it_round(report):
    copy = report.with_name("clicked.html")
    script = """<script>
      const table = document.querySelector('[data-csv="damage.csv"]'), shown = [];
      for (let click = 0; click < 2; click++) {
        table.rows[0].cells[2].querySelector("button").click();
        shown.push([...table.rows].slice(1).map((row) => row.cells[2].dataset.value).join(" "));
      }
      document.body.innerHTML = `<p id="order">${shown.join("; ")}</p>`;
    </script></body>"""
    copy.write_text(report.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    text = SCRIPT["_run"](["--dump-dom", copy.as_uri()])
    assert '<p id="order">4.0 1.5 0.4 0.01; 0.01 0.4 1.5 4.0</p>' in text


def test_a_map_is_flipped_and_the_slider_changes_its_budget(report):
    copy = report.with_name("flipped.html")
    script = """<script>
      const flip = document.querySelector(".flip");
      flip.querySelector("[type=range]").value = 1;
      flip.querySelector("[value=difference]").checked = true;
      flip.dispatchEvent(new Event("input"));
      document.body.textContent = [flip.querySelector("output").textContent,
        flip.querySelector(".what").textContent, flip.querySelector("img").src].join("; ");
    </script></body>"""
    copy.write_text(report.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    text = SCRIPT["_run"](["--dump-dom", copy.as_uri()])
    assert "1 std; Ωm at 1, &lt;script&gt;" in text
    assert "data:image/png;base64,</body>" in text.replace("\n", "")  # the frame's own picture
