"""A report of few rows whose every number is known, with names that try to leave their place."""

import base64
import struct
import zlib

import pytest

from spurious.report import findings, page
from spurious.report.verdict import verdict

HOSTILE = '<script>alert("x")</script>'
NAMES = ("omega_m", "sigma_8")


def iv(mean):
    """A number with an interval of its own."""
    return {"mean": mean, "low": 0.8 * mean, "high": 1.25 * mean}


def png(width=1300, height=500):
    """A grey picture of that size."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress((b"\0" + b"\x99" * width) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def row(kl, group, change=0.01):
    """A row of damage."""
    kinds = ("kl_clean_perturbed", "kl_symmetrised", "rms_counts", "abs_mean_change")
    return {
        "group": group,
        "n_maps": 40,
        "kl_perturbed_clean": iv(kl),
        **{kind: iv(kl / (i + 2)) for i, kind in enumerate(kinds)},
        "abs_shift_omega_m": iv(kl**0.5),
        "abs_shift_sigma_8": iv(kl**0.5 / 2),
        "largest_mean_change": 0.02,
        "mean_power_change_raw": iv(change / 2),
        "mean_power_change_contrast": iv(change),
        "power_change_cosmic_contrast": iv(0.3),
        "others": {"resnet": {"kl_perturbed_clean": iv(kl / 3)}},
        "retrained": {"kl_perturbed_clean": iv(kl / 2)},
    }


def judgement(verdict, auroc, by=()):
    """The verdict of detection on one perturbation."""
    return {
        "verdict": verdict, "by": list(by), "best": "pdf", "auroc": iv(auroc), "least_auroc": 0.63,
        "n_maps": 40, "detectors": ["log_power", "pdf", "network"],
    }  # fmt: skip


def assessment():
    """`assess.json`, with two posteriors."""
    part = {"n_maps": 9, "inward": iv(0.01), "rmse": iv(0.05), "z_rms": iv(1.1)}
    edges = {name: {"interior": part, "low": part} for name in NAMES}
    metrics = {f"{name}_{metric}": iv(0.5) for name in NAMES for metric in page.METRICS}
    one = {
        "split": "random", "nll": iv(-2.0), "chi2": iv(1.0), "tarp_deviation": 0.05,
        "tarp_p_value": 0.4, "edges": edges, "n_train": 70, "n_validation": 10, "n_test": 40,
    } | metrics  # fmt: skip
    rmse = dict.fromkeys(NAMES, 0.06)
    return {
        "target": "compact_1",
        "posteriors": {"compact_1": one, "likelihood": one},
        "ratios": {"likelihood": {"compact_1": {name: iv(0.8) for name in NAMES}}},
        "fisher": {
            "n_maps": 70, "degree": 2, "rmse": rmse, "rmse_with_prior": rmse, "differences": None,
        },
    }  # fmt: skip


def searches():
    """`search.json`, with one family, whose parameter lies at the end of its range."""
    return {
        "families": {
            "calibration": {
                "parameters": {"amplitude": 0.03}, "feasible": True, "holds": True, "beyond": [],
                "at_bound": ["amplitude"], "wider": None, "kl": 1.1, "kl_confirmed": iv(1.2),
                "confirmed": {"fences": {"power": 0.04}},
                "transfer": {"resnet": {"kl_perturbed_clean": iv(0.3)}}, "transfers_to": ["resnet"],
            }
        },
        "limits": {"power": 0.05}, "confidence": 0.95, "n_search": 20, "n_confirm": 20,
        "kl_paper": 0.4, "change_paper": 0.1, "pure_gain": None,
    }  # fmt: skip


def defences():
    """`defences.json`, with the undefended network and one defence."""
    quality = {
        f"{name}_{metric}": iv(0.5)
        for name in NAMES
        for metric in ("rmse", "z_rms", "coverage_68", "coverage_95")
    } | {"nll": iv(-2.0), "rejected": iv(0.0)}
    one = {
        "kind": "adversarial", "unproven": [], "damage": iv(0.3), "damage_left": 0.4,
        "bounded": {"damage": iv(0.1), "unproven": []},
        "rejected": iv(0.0), "information": iv(0.7), "clean": quality, "inside": None,
        "families": {"calibration": {"kl": iv(0.2), "seen": False}}, "certified": [],
        "checks": {"gradient_agrees": check()},
    }  # fmt: skip
    return {
        "target": "compact", "winner": "adversarial", "epsilon": {"value": 0.03, "unit": "std"},
        "n_attacked": 20, "keep": 0.5, "inside": [], "fraction": 0.1,
        "defences": {"compact": one, "adversarial": one},
    }  # fmt: skip


def check(passed=True):
    """A check of the attacks."""
    return {
        "passed": passed, "value": 0.9, "threshold": 0.5, "page": "docs/checks/monotone.md",
        "sentence": f"All is well, {HOSTILE}.",
    }  # fmt: skip


def context():
    """All that the templates need."""
    rows = {
        "bim": row(4.0, "paper", 0.03),
        "systematic": row(0.4, "paper", 0.1),
        HOSTILE: row(0.01, HOSTILE),
        "searched_calibration": row(1.5, "search", 0.002),
    }
    judged = {
        "bim": judgement("noticed", 0.9, ["pdf", "network"]),
        "systematic": judgement("noticed", 0.8, ["pdf"]),
        HOSTILE: judgement("escapes", 0.5),
        "searched_calibration": judgement("escapes", 0.55),
    }
    checks = {"monotone": check(), "saturates": check(False), "planted_found": check(None)}
    assessed, search = assessment(), searches()
    pair = {"first": "bim", "second": "systematic", "kl_symmetrised": iv(0.6)}
    return {
        "scale": "pilot", "n_maps": 120, "names": NAMES, "own": "", "documented": True,
        "attacks": rows,
        "groups": page.grouped(rows), "judged": judged, "verdicts": page.verdicts(rows, judged),
        "checks": checks, "target": "compact", "trainings": 3,
        "network": assessed["posteriors"]["compact_1"], "assessed": assessed,
        "others": page.others(rows), "n_test": 40, "search": search, "defended": defences(),
        "transfer_columns": page.transfer_columns(search["families"]),
        "verify": {"n_maps": 12, "max_difference": 1e-6, "tolerance": 1e-5},
        "verdict": verdict(rows, judged),
        "findings": findings.findings(rows, judged, search, assessed, checks),
        "reasons": page.reasons(rows, "compact"), "pairs": findings.pairs([pair]),
        "differences": page.differences(rows, 38.0), "omega_m_low": 0.1, "baryon_fraction": 0.5,
        "flip": {
            "clean": base64.b64encode(png(8, 8)).decode(),
            "frames": [
                {"label": f"{budget} std", "perturbed": f"{budget}", "difference": "",
                 "text": f"Ω_m at {budget}, {HOSTILE}"}
                for budget in (0.1, 1)
            ],
        },
        "runs": [
            {"name": "train compact", "id": "0" * 32, "experiment": "1", "commit": "1" * 40,
             "start": 1.75e9, "seconds": 12.5}
        ],
        "machine": {"processor": HOSTILE, "cores": "2"},
        "provenance": {"git.commit": "2" * 40, "git.dirty": "true", "version.numpy": "2.4",
                       "dvc.data/pilot/maps.h5": "3" * 32},
        "parameters": f"seed: 1\nname: '{HOSTILE}'\n",
    }  # fmt: skip


def images():
    """A picture for every place that has one."""
    from spurious.report.pictures import PICTURES

    return dict.fromkeys((*PICTURES, "search_calibration"), png()) | {"headline": png(1300, 340)}


@pytest.fixture(scope="session")
def small_context():
    """What the templates of the report need."""
    return context()


@pytest.fixture(scope="session")
def small_images():
    """Pictures by name, PNG."""
    return images()


@pytest.fixture(scope="session")
def small_report(small_context, small_images):
    """The report as HTML."""
    return page.render(small_context, small_images, {"headline": png(1300, 330)})
