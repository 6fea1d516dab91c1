"""The page: its structure, what it links to, and the numbers of its first screen."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spurious.report import findings, page
from spurious.report.pictures import PICTURES, encoded

HOSTILE = "alert("


class Page(HTMLParser):
    """Elements with their attributes, and the text of each."""

    VOID = ("img", "meta", "br", "input", "link")

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **having):
        return [
            one
            for one in self.elements
            if one["tag"] == tag and all(one.get(key) == value for key, value in having.items())
        ]


@pytest.fixture(scope="module")
def shown(small_report):
    return Page(small_report)


def test_every_element_is_closed(shown):
    assert shown.open == []


def test_there_is_one_title_and_at_most_eight_sections(shown):
    assert len(shown.all("h1")) == 1
    sections = shown.all("section")
    assert len(sections) == len(shown.all("h2")) <= 8
    assert [one["id"] for one in sections] == list(page.SECTIONS)


def test_links_within_the_page_lead_somewhere_and_contents_name_all_sections(shown):
    ids = [one["id"] for one in shown.elements if "id" in one]
    assert len(ids) == len(set(ids))
    inner = [one["href"][1:] for one in shown.all("a") if one["href"].startswith("#")]
    assert set(inner) <= set(ids) and set(page.SECTIONS) <= set(inner)


def test_the_page_fetches_nothing(shown):
    for one in shown.elements:
        assert one.get("src", "data:").startswith("data:")
        assert one["tag"] not in ("link", "iframe", "object", "embed", "base")
        assert "http" not in one["text"] or one["tag"] not in ("style", "script")
    (policy,) = shown.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_links_to_other_addresses_are_those_of_runs_on_this_machine(shown):
    far = [one["href"] for one in shown.all("a") if ":" in one["href"]]
    assert far == [f"http://127.0.0.1:5000/#/experiments/1/runs/{'0' * 32}"]


def test_a_dark_page_has_dark_figures(shown, small_report):
    """Its own where there is one; of the others the colours are turned round."""
    (light,), (dark,) = (shown.all("img", **{"class": name}) for name in ("light", "dark"))
    assert light["alt"] == dark["alt"] and light["src"] != dark["src"]
    plain = shown.all("img", **{"class": "plain"})
    assert len(plain) == len(shown.all("img")) - 3  # and the map to be flipped stays
    assert "img.plain { filter: invert" in small_report


def test_a_picture_is_small_and_looks_the_same():
    """A slope of more than 10 000 colours, as antialiasing and colour maps make them."""
    x = np.arange(256)
    pixels = np.stack(np.broadcast_arrays(x, x[:, None], 128), axis=-1).astype(np.uint8)
    pixels[:64] = 255  # paper
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    short = base64.b64decode(encoded(file.getvalue()))
    found = np.asarray(Image.open(io.BytesIO(short)).convert("RGB"), int)
    assert np.abs(found - pixels).max() <= 20 and (found[:64] == 255).all()
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 256


def test_every_figure_has_words_for_who_cannot_see_it_and_the_file_of_its_data(shown, small_images):
    pictures = [one for one in shown.all("img") if one.get("class") != "dark"]
    assert len(pictures) == len(shown.all("figure")) == len(small_images) + 1  # one to be flipped
    assert all(len(one["alt"]) > 20 for one in pictures)
    data = [one["href"] for one in shown.all("a", **{"class": "data"})]
    assert len(data) == len(pictures) + 1 and "../verify.json" in data


@pytest.mark.parametrize("name", PICTURES)
def test_every_figure_is_explained_in_two_sentences(name):
    assert PICTURES[name].read.count(". ") == 1 and PICTURES[name].read.endswith(".")


def test_the_first_screen_has_the_verdict_and_the_numbers_of_the_rows(shown, small_context):
    """What escapes and moved most is the winner of a search, not the attack that was noticed."""
    (title,) = shown.all("h1")
    assert title["text"] == (
        "A change that none of 3 detectors noticed, the worst “calibration” that the search found, "
        "moved this network’s Ωm by 1.2 σ."
    )
    row = small_context["attacks"]["searched_calibration"]
    judged = small_context["judged"]["searched_calibration"]
    expected = [row["kl_perturbed_clean"], row["mean_power_change_contrast"], judged["auroc"]]
    numbers = shown.all("data")
    found = [
        {
            "mean": float(one["value"]),
            "low": float(one["data-low"]),
            "high": float(one["data-high"]),
        }
        for one in numbers
    ]
    assert found == expected
    assert [one["text"] for one in numbers] == ["1.5", "0.2", "0.55"]


def test_parameters_are_typeset_and_hostile_words_stay_words(small_report, shown):
    assert "Ω_m" not in small_report and "σ_8" not in small_report
    assert "Ω<sub>m</sub>" in small_report
    frames, code = (one["text"] for one in shown.all("script"))
    assert HOSTILE not in code and "<" not in frames
    assert json.loads(frames)[1]["text"].startswith("Ω<sub>m</sub> at 1, &lt;script&gt;")
    assert small_report.count("&lt;script&gt;") > 5
    assert [one.get("type") for one in shown.all("script")] == ["application/json", None]


def test_full_tables_are_folded_and_hold_numbers_in_full(shown, small_context):
    tables = {one["data-csv"] for one in shown.all("table") if "data-csv" in one}
    assert {"damage.csv", "noticed.csv", "checks.csv", "search.csv", "transfer.csv"} <= tables
    assert {"defences.csv", "posteriors.csv", "stages.csv", "paper.csv"} <= tables
    kl = small_context["attacks"]["bim"]["kl_perturbed_clean"]
    cells = [one for one in shown.all("td") if one.get("data-value") == str(kl["mean"])]
    assert cells and cells[0]["data-low"] == str(kl["low"])


def test_failed_checks_are_not_folded_away(small_report):
    before, _, _ = small_report.partition("All checks of the attacks")
    _, _, trust = before.rpartition('<section id="trust">')
    assert "FAILED" in trust and "saturates" in trust and "monotone</td>" not in trust


def test_a_search_at_the_end_of_its_range_says_so(small_report):
    assert "At an end of their range: amplitude." in small_report


def test_the_markdown_says_the_same(small_context, small_images):
    text = page.render_markdown(small_context, small_images)
    first = text.splitlines()[0]
    assert first.startswith("# A change that none of 3 detectors") and "Ω<sub>m</sub>" in first
    for sentences in small_context["findings"].values():
        for sentence in sentences:
            assert str(page.typeset(sentence)).replace("&#39;", "'") in text
    assert "| Damage | 1.5 nat | 1.2 … 1.88 |" in text
    assert "<script" not in text


def test_reasons_change_one_choice_at_a_time(small_context):
    found = dict(page.reasons(small_context["attacks"], "compact"))
    assert found["seed: the maps of BIM on other trainings"]["mean"] == 2.0
    assert found["layers: the maps of systematic on resnet"]["mean"] == pytest.approx(0.4 / 3)


@pytest.fixture
def own_page(small_context, small_images):
    """The report on maps that were not simulated here, without defences and a forecast."""
    about = {
        key: value
        for key, value in small_context.items()
        if key not in ("verify", "omega_m_low", "baryon_fraction")
    }
    left_out = {**about["assessed"], "fisher": {"left_out": "3 simulations are too few"}}
    found = findings.findings(
        about["attacks"], about["judged"], about["search"], left_out, about["checks"], True
    )
    about |= {"own": "Maps of another code.", "assessed": left_out, "defended": None}
    about |= {"differences": [], "findings": found}
    return page.render(about, small_images, {}), page.render_markdown(about, small_images)


def test_of_maps_of_ones_own_nothing_is_said_that_holds_of_simulations_only(own_page, small_report):
    html, markdown = own_page
    for text in (
        "The engine reproduced",
        "mean of 64 counts",
        ">1.05</td>",
        "Diamonds",
        "Beside",
    ):
        assert text in small_report and text not in html
    for text in (
        "Maps of another code.", "No defence was compared", "120 maps of one’s own",
        "forecast of ln P(k) is left out: 3 simulations are too few.", "numbers are left out",
    ):  # fmt: skip
        assert text in html and text not in small_report
    assert "120 maps of one’s own" in markdown and "numbers are left out" in markdown
    for text in ("information kept", "Why our numbers differ", "not reproduced"):
        assert text not in markdown
    assert Page(html).open == []


def test_pages_are_linked_where_they_are(small_context, small_images, small_report):
    elsewhere = page.render({**small_context, "documented": False}, small_images, {})
    link, name = '<a href="../../docs/intervals.md">', "<code>docs/intervals.md</code>"
    assert link in small_report and name not in small_report
    assert name in elsewhere and "../../docs" not in elsewhere


@pytest.mark.parametrize(("dirty", "repeated"), [("true", False), ("false", True), (None, True)])
def test_a_run_of_files_that_differ_from_its_commit_is_not_said_to_be_repeatable(
    small_context, small_images, dirty, repeated
):
    """Outside a repository nothing is known of either."""
    known = {} if dirty is None else {"git.dirty": dirty}
    others = {
        key: value for key, value in small_context["provenance"].items() if "dirty" not in key
    }
    html = page.render({**small_context, "provenance": known | others}, small_images, {})
    assert ("This run can be repeated" in html) is repeated
    assert ("Files differed from the commit" in html) is not repeated
