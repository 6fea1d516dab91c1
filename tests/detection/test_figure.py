"""The figure of who would notice shows each number in its place."""

import io

import numpy as np

from spurious import figures


def row(auroc, p_value, n=363):
    cell = {"mean": auroc, "low": auroc - 0.1, "high": auroc + 0.1}
    statistic = {
        "auroc": {**cell, "kind": "anomaly"},
        "auroc_anomaly": cell,
        "auroc_known": {**cell, "mean": 0.25},
        "p_value": p_value,
    }
    return {
        "pdf": statistic,
        "scattering": statistic,
        "mmd": {"value": 0.1, "p_value": p_value},
        "network": {"auroc": {**cell, "mean": 0.55, "kind": "learned"}, "p_value": 0.2},
        "n_maps": n,
        "judgement": {"verdict": "no detector", "auroc": cell},
    }


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_numbers_stand_where_they_belong():
    rows = {"bim": row(0.47, 0.5), "logistic": row(0.8, 0.0024), "few": row(0.47, 0.003, 32)}
    figure = figures.detection(rows)
    known, anomaly, p_value = figure.axes
    assert texts(known) == ["0.25", "0.25", "0.55"] * 3
    assert texts(anomaly) == ["0.47"] * 2 + ["0.80"] * 2 + ["0.47"] * 2
    assert texts(p_value)[:12] == [
        *[".500", ".500", ".500", ".200"],
        *[".002", ".002", ".002", ".200"],
        *[".003", ".003", ".003", ".200"],
    ]
    assert texts(p_value)[12:] == [
        "escapes (n = 363)",
        "noticed (n = 363)",
        "too few maps (n = 32)",
    ]
    # In bold: below 0.01 over four detectors; and what escapes.
    bold = [t.get_fontweight() == "bold" for t in p_value.texts]
    assert bold == [False] * 4 + [True] * 3 + [False] * 5 + [True, False, False]
    shade = anomaly.images[0].get_array()
    np.testing.assert_allclose(shade, [[0, 0], [0.6, 0.6], [0, 0]], atol=1e-12)
    assert [t.get_text() for t in known.get_yticklabels()] == ["BIM", "logistic", "few"]
    assert [t.get_text() for t in known.get_xticklabels()] == [
        "PDF",
        "scattering",
        "network, counts",
    ]
    assert [t.get_text() for t in p_value.get_xticklabels()] == [
        "PDF",
        "scattering",
        "MMD, all together",
        "network, counts",
    ]
    figure.savefig(io.BytesIO(), dpi=40)
