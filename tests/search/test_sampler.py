"""The sampler that learns from gradients, and its Gaussian process."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import norm

from spurious.search import gaussian_process
from spurious.search.acquisition import History, propose
from spurious.search.families import Coordinate
from spurious.search.gaussian_process import Data
from spurious.search.sampler import GradientSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
COORDINATES = tuple(Coordinate(f"x{i}", 0.0, 1.0, "linear", "") for i in range(4))


def wave(points):
    """A smooth function on [0, 1]^4 and its gradient."""
    a, b, c, d = np.moveaxis(points, -1, 0)
    value = np.sin(3 * a) + b**2 * np.cos(2 * c) + a * d
    slopes = (3 * np.cos(3 * a) + d, 2 * b * np.cos(2 * c), -2 * b**2 * np.sin(2 * c), a)
    return value, np.stack(slopes, axis=-1)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).random((30, 4))


@pytest.fixture(scope="module")
def process(points):
    return gaussian_process.fit(points, *wave(points))


def test_covariance_is_that_of_values_and_their_derivatives():
    """Against central differences of the covariance of values, in double precision."""
    rng = np.random.default_rng(1)
    x, y = rng.random(3), rng.random(3)
    blocks = gaussian_process._covariance((x - y)[None, None])[:, 0, :, 0]
    step, e = 1e-4, np.eye(3)

    def k(x, y):
        s = np.sqrt(5 * np.sum((x - y) ** 2))
        return (1 + s + s**2 / 3) * np.exp(-s)

    def by_y(x, y, j):
        return (k(x, y + step * e[j]) - k(x, y - step * e[j])) / (2 * step)

    assert blocks[0, 0] == pytest.approx(k(x, y), rel=1e-12)
    for j in range(3):
        assert blocks[0, 1 + j] == pytest.approx(by_y(x, y, j), rel=1e-5, abs=1e-8)
        assert blocks[1 + j, 0] == pytest.approx(-by_y(x, y, j), rel=1e-5, abs=1e-8)
        for i in range(3):
            up, down = (by_y(x + s * step * e[i], y, j) for s in (1, -1))
            expected = (up - down) / (2 * step)
            assert blocks[1 + i, 1 + j] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gradient_of_the_evidence_matches_differences(points):
    values, gradients = wave(points)
    gradients = gradients.copy()
    gradients[3] = np.nan
    data = Data.of(points, values, gradients)
    place = np.log([0.5, 0.7, 0.3, 0.9, 1e-4, 1e-3])
    _, gradient = gaussian_process._negative_log_evidence(place, data)
    for i, step in enumerate(1e-5 * np.eye(6)):
        up, down = (
            gaussian_process._negative_log_evidence(place + s * step, data)[0] for s in (1, -1)
        )
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_evidence_is_the_density_of_a_normal_distribution(points):
    """Differences of it, by SciPy, without the prior on the lengths."""
    from scipy.stats import multivariate_normal

    data = Data.of(points[:6], *wave(points[:6]))

    def by_scipy(lengths, nuggets):
        matrix = gaussian_process._matrix(data, lengths, nuggets)
        units = np.append(np.ones(6), np.repeat(lengths, 6))  # derivatives by x, not by x / length
        known = gaussian_process._solved(data, lengths, nuggets)
        covariance = known.variance * matrix / units[:, None] / units[None]
        mean = known.mean * data.select(0)
        return -multivariate_normal(mean, covariance).logpdf(data.observed.ravel())

    def ours(lengths, nuggets):
        prior = np.log(lengths / gaussian_process.FIRST_LENGTH) / gaussian_process.SPREAD
        value, _ = gaussian_process._negative_log_evidence(np.log([*lengths, *nuggets]), data)
        return value - 0.5 * prior @ prior

    one = (np.array([0.5, 0.7, 0.3, 0.9]), (1e-4, 1e-3))
    other = (np.array([0.8, 0.4, 0.6, 0.5]), (1e-3, 1e-4))
    assert ours(*one) - ours(*other) == pytest.approx(by_scipy(*one) - by_scipy(*other), rel=1e-6)


def test_interpolates_values_and_gradients(process, points):
    values, gradients = wave(points)
    np.testing.assert_allclose(process.predict(points)[0], values, atol=1e-3)
    slopes = np.array([process.slope(point)[2] for point in points])
    np.testing.assert_allclose(slopes, gradients, atol=1e-2)


def test_gradients_of_the_prediction_match_differences(points):
    """Away from where the deviation is a rounding."""
    process = gaussian_process.fit(points[:5], *(part[:5] for part in wave(points)))
    for point in points[10:14]:
        mean, deviation, of_mean, of_deviation = process.slope(point)
        ends = [process.predict(point + s * 1e-5 * np.eye(4)) for s in (1, -1)]
        assert process.predict(point[None])[0][0] == pytest.approx(mean)
        assert process.predict(point[None])[1][0] == pytest.approx(deviation)
        for k, slope in enumerate((of_mean, of_deviation)):
            np.testing.assert_allclose(
                slope, (ends[0][k] - ends[1][k]) / 2e-5, rtol=1e-2, atol=1e-4
            )


def test_learns_more_from_gradients_than_from_values(process, points):
    others = np.random.default_rng(2).random((200, 4))
    truth, _ = wave(others)
    values, gradients = wave(points)
    blind = gaussian_process.fit(points, values, np.full_like(gradients, np.nan))
    errors = [np.sqrt(np.mean((p.predict(others)[0] - truth) ** 2)) for p in (process, blind)]
    assert errors[0] < errors[1] / 5
    mean, deviation = process.predict(others)
    assert 0.1 < np.sqrt(np.mean(((mean - truth) / deviation) ** 2)) < 2


def test_more_values_move_the_prediction_there(process):
    place = np.full((1, 4), 0.05)
    before, deviation = process.predict(place)
    after = process.with_values(place, before + 0.5)
    assert after.predict(place)[0] == pytest.approx(before + 0.5, abs=0.05)
    assert after.predict(place)[1] < deviation


def bump(point):
    """Value, gradient, excess, its gradient: a narrow and a broad hill behind a curved fence."""
    centres, widths, heights = np.array([[0.8] * 4, [0.25] * 4]), (0.25, 0.3), (1.0, 0.6)
    value, gradient = 0.0, np.zeros(4)
    for centre, width, height in zip(centres, widths, heights, strict=True):
        hill = height * np.exp(-np.sum((point - centre) ** 2) / (2 * width**2))
        value, gradient = value + hill, gradient - hill * (point - centre) / width**2
    excess = point @ point / 2.2 - 1  # the top of the narrow hill, 2.56, is outside
    return value, gradient, excess, 2 * point / 2.2


def search(sampler, trials, gradients=True, coordinates=COORDINATES):
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        point = np.array([trial.suggest_float(one.name, one.low, one.high) for one in coordinates])
        value, slope, excess, of_excess = bump(point)
        trial.set_user_attr("excess", excess)
        if gradients:
            told = {"value": slope.tolist(), "excess": of_excess.tolist()}
            trial.set_user_attr("gradients", told)
        trial.set_constraint("fence", excess)
        study.tell(trial, value)
    return study


def best(study):
    return max((t.value for t in study.trials if t.constraints["fence"] <= 0), default=0.0)


def test_finds_a_constrained_optimum_with_fewer_evaluations_than_tpe():
    """The best of 16 trials, against the best of 80 of TPE, over three seeds."""
    ours = [best(search(GradientSampler(seed, COORDINATES), 16)) for seed in range(3)]
    theirs = [best(search(optuna.samplers.TPESampler(seed=seed), 80)) for seed in range(3)]
    assert np.median(ours) > 1.2 * np.median(theirs)
    # On the diagonal the fence stands at 0.7416: exp(-4 (0.8 - 0.7416)^2 / 0.125) = 0.8966, plus
    # 0.6 exp(-4 (0.7416 - 0.25)^2 / 0.18) = 0.0028.
    assert np.median(ours) == pytest.approx(0.8995, abs=0.005)


def test_the_same_history_and_number_give_the_same_proposal():
    one, other = (search(GradientSampler(3, COORDINATES), 8) for _ in range(2))
    assert [t.params for t in one.trials] == [t.params for t in other.trials]
    different = search(GradientSampler(4, COORDINATES), 8)
    assert different.trials[0].params != one.trials[0].params
    shuffled = optuna.create_study(direction="maximize", sampler=GradientSampler(3, COORDINATES))
    shuffled.add_trials(one.trials[:8][::-1])
    again = optuna.create_study(direction="maximize", sampler=GradientSampler(3, COORDINATES))
    again.add_trials(one.trials[:8])
    asked = [study.ask() for study in (shuffled, again)]
    proposed = [[t.suggest_float(c.name, 0.0, 1.0) for c in COORDINATES] for t in asked]
    assert proposed[0] == proposed[1]


def test_minimises_too():
    study = optuna.create_study(direction="minimize", sampler=GradientSampler(0, COORDINATES[:1]))
    for _ in range(10):
        trial = study.ask()
        x = trial.suggest_float("x0", 0.0, 1.0)
        trial.set_user_attr("gradients", {"value": [2 * (x - 0.3)]})
        study.tell(trial, (x - 0.3) ** 2)
    assert study.best_params["x0"] == pytest.approx(0.3, abs=0.02)


def test_logarithmic_and_asinh_coordinates_keep_their_bounds():
    coordinates = (
        Coordinate("x0", 0.01, 100.0, "log", ""),
        Coordinate("x1", -30.0, 30.0, "asinh", ""),
    )
    study = optuna.create_study(direction="maximize", sampler=GradientSampler(0, coordinates))
    for _ in range(8):
        trial = study.ask()
        x = trial.suggest_float("x0", 0.01, 100.0, log=True)
        study.tell(trial, x + trial.suggest_float("x1", -30.0, 30.0))
    assert study.best_params == pytest.approx({"x0": 100.0, "x1": 30.0})


def test_useless_trials_are_ignored():
    finished = search(GradientSampler(3, COORDINATES), 8).trials
    space = {one.name: FloatDistribution(0.0, 1.0) for one in COORDINATES}
    place = dict.fromkeys(space, 0.5)
    useless = [
        create_trial(state=TrialState.FAIL, params=place, distributions=space),
        create_trial(
            state=TrialState.PRUNED, params=place, distributions=space, intermediate_values={1: 9.0}
        ),
        create_trial(value=np.inf, params=place, distributions=space),
        create_trial(value=9.0, params={"y": 0.5}, distributions={"y": FloatDistribution(0, 1)}),
    ]
    proposed = []
    for trials in (finished, [*useless, *finished]):
        study = optuna.create_study(direction="maximize", sampler=GradientSampler(3, COORDINATES))
        study.add_trials(trials)
        study.enqueue_trial({}, user_attrs={"start": 99})
        trial = study.ask()
        proposed.append([trial.suggest_float(one.name, 0.0, 1.0) for one in COORDINATES])
    assert proposed[0] == proposed[1]


def test_trials_that_run_are_not_proposed_again():
    study = search(GradientSampler(3, COORDINATES), 8)
    asked = []
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={"start": 99})
        trial = study.ask()
        asked.append([trial.suggest_float(one.name, 0.0, 1.0) for one in COORDINATES])
    assert np.linalg.norm(np.subtract(*asked)) > 0.01


def test_fixed_parameters_are_kept_and_the_others_chosen_for_them():
    study = search(GradientSampler(3, COORDINATES), 12)
    study.enqueue_trial({"x0": 0.3}, user_attrs={"start": 99})
    trial = study.ask()
    proposed = np.array([trial.suggest_float(one.name, 0.0, 1.0) for one in COORDINATES])
    assert proposed[0] == 0.3
    history = study.sampler._history(study, COORDINATES)
    free = propose(history, np.empty((0, 4)), {0: 0.3}, np.random.default_rng(0))
    assert free[0] == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(4))
def test_exploring_goes_where_little_is_known(seed):
    """Nine tenths, at least, of what is unknown at the best of a thousand other points."""
    study = search(GradientSampler(seed, COORDINATES), 12)
    history = study.sampler._history(study, COORDINATES)
    value = gaussian_process.fit(history.points, history.values, history.gradients)
    fence = gaussian_process.fit(history.points, history.excess, history.excess_gradients)

    def unknown(points):
        mean, deviation = fence.predict(points)
        return value.predict(points)[1] * norm.cdf(-mean / deviation)

    explored = propose(history, np.empty((0, 4)), {}, np.random.default_rng(0), explore=True)
    elsewhere = unknown(np.random.default_rng(1).random((1000, 4)))
    assert unknown(explored[None])[0] > 0.9 * elsewhere.max()
    assert bump(explored)[2] < 0.5


def test_other_parameters_are_drawn_independently():
    study = optuna.create_study(sampler=GradientSampler(0))
    for _ in range(8):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        n = trial.suggest_int("n", 1, 3)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        study.tell(trial, x + n + (kind == "b"))
    assert {trial.params["kind"] for trial in study.trials} == {"a", "b"}
    # What all trials share and is a float is a coordinate, although none was named.
    assert study.best_params["x"] < 0.1


def test_works_with_optimize():
    study = optuna.create_study(sampler=GradientSampler(0))
    study.optimize(lambda trial: (trial.suggest_float("x", -2.0, 2.0) - 1) ** 2, n_trials=12)
    assert study.best_params["x"] == pytest.approx(1, abs=0.05)


def test_far_more_trials_than_a_process_can_learn_from():
    rng = np.random.default_rng(0)
    points = rng.random((500, 4))
    rows = [np.concatenate([p, [v], g, [e], s]) for p in points for v, g, e, s in [bump(p)]]
    history = History.of(rows, 4, root=False)
    kept = history.chosen()
    assert len(kept.points) == 80
    assert kept.best == history.best
    assert propose(history, np.empty((0, 4)), {}, rng).shape == (4,)


def test_root_makes_a_quadratic_linear():
    rows = [np.array([x, x**2, 2 * x, np.nan, np.nan]) for x in (0.25, 0.5, 1.0)]
    history = History.of(rows, 1, root=True)
    np.testing.assert_allclose(history.values, history.points[:, 0], rtol=1e-4)
    np.testing.assert_allclose(history.gradients, 1, rtol=1e-4)
    assert not history.constrained
    assert history.best == pytest.approx(1, rel=1e-4)
