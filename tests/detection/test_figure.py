"""The figure of who would notice shows each number in its place."""

import io

import numpy as np

from spurious import figures


def row(auroc, p_value):
    cell = {"mean": auroc, "low": auroc - 0.1, "high": auroc + 0.1}
    statistic = {"auroc_anomaly": cell, "auroc_known": {**cell, "mean": 1.0}, "p_value": p_value}
    return {"pdf": statistic, "peaks": statistic, "mmd": {"value": 0.1, "p_value": 0.0005}}


def test_numbers_stand_where_they_belong():
    figure = figures.detection({"bim": row(0.47, 0.5), "logistic": row(0.8, 0.003)})
    known, anomaly, p_value = figure.axes
    assert [t.get_text() for t in known.texts] == ["1.00"] * 4
    assert [t.get_text() for t in anomaly.texts] == ["0.47", "0.47", "0.80", "0.80"]
    assert [t.get_text() for t in p_value.texts] == [
        ".500",
        ".500",
        "<.001",
        ".003",
        ".003",
        "<.001",
    ]
    bold = [t.get_fontweight() == "bold" for t in p_value.texts]
    assert bold == [False, False, True, True, True, True]
    np.testing.assert_allclose(anomaly.images[0].get_array(), [[0, 0], [0.6, 0.6]], atol=1e-12)
    assert [t.get_text() for t in known.get_yticklabels()] == ["BIM", "logistic"]
    assert [t.get_text() for t in p_value.get_xticklabels()] == [
        "PDF",
        "peaks",
        "MMD, all together",
    ]
    figure.savefig(io.BytesIO(), dpi=40)
