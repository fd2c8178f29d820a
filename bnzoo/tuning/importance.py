"""Which of the searched keys mattered most: each key's share of the differences between trials."""

from collections.abc import Iterable, Sequence
from statistics import median_low
from typing import Any

import numpy as np
from scipy import stats

from bnzoo.config import value_texts
from bnzoo.reporting import formatting
from bnzoo.studies.statistics import LEVEL

FEWEST_KEYS = 3  # two are seen in the figures themselves
FEWEST_TRIALS = 10
NUM_REPEATS, NUM_FOLDS, NUM_TREES = 10, 5, 20  # of cross-validation; more move shares by 0.02
TOO_FEW = "Too few trials to tell which key mattered most"
ABSENT = object()


def key_importance(trials: Sequence[dict[str, Any]], direction: str) -> dict[str, Any] | None:
    """Return the share of each searched key in the differences between the trials' scores.

    Random forests predict the score of each trial from the other four fifths of the trials, once
    from its values and once with those of one key shuffled over all trials. Half the rise of
    the squared error, in units of the variance of the scores, is the key's share: what it decides
    alone or together with other keys. Without interactions the shares add up to what the forest
    explains, with them to more.

    - A run's score is its place among the runs with the same seed, and a trial's the mean of them:
      a loss of a million is no more than the highest one. Diverged runs share the last place.
    - The interval is that of the mean over the trials. The spread over repeats would
      tell how exact the calculation is, and not what other trials would have shown.
    - A key that a trial lacks, as its condition was not met, takes the middle of its values there:
      what follows from its being absent counts for the key of the condition.
    - Of hyperband's rounds the longest of each combination counts, and the forest is told its
      epochs.
    - Where the interval of what the forest explains holds 0, no key is told from the others.

    Limits: it is about the values that were tried, not about others. Where a search tried values
    of two keys together, as Bayesian search comes to do, the two share what either may have done,
    and intervals are rough. A forest smooths: with few trials, shares are too small. In simulated
    random searches, from 30 to 100 trials, 9 of 10 intervals of a key that did nothing held 0.

    Source: Breiman, Random Forests (2001), section 10. That half the rise is the share of variance
    (the total Sobol' index) follows from Jansen (1999), for forests of additive scores from
    Gregorutti, Michel and Saint-Pierre, Correlation and variable importance in random forests
    (2017). The interval is that of Watson and Wright, Testing conditional independence in
    supervised learning algorithms (2021), with shuffled values in place of knockoffs.

    Args:
        trials: of a sweep's summary.
        direction: `max` or `min`, the better end of the scores.

    Returns:
        None where fewer than three keys were varied. Else `text`, one sentence; `trials`, how many;
        `keys`, by path and from the largest `share` down, each with its 95 % `interval`, empty
        where the trials are too few to tell; `explained`, the share of the differences that the
        forest predicts from all keys; `seed_noise`, the share that follows from the seeds alone,
        None with one.
    """
    ended = sorted((t for t in trials if t["score"] is not None), key=lambda t: t["epochs"] or 0)
    ended = list({str(trial["values"]): trial for trial in ended}.values())  # the last stays
    paths = dict.fromkeys(path for trial in ended for path in trial["values"])
    blocks = {
        path: _columns(trial["values"].get(path, ABSENT) for trial in ended) for path in paths
    }
    blocks = {path: block for path, block in blocks.items() if np.ptp(block)}
    if len(blocks) < FEWEST_KEYS:
        return None
    found = {"trials": len(ended), "keys": {}, "explained": None, "seed_noise": None}
    if len(ended) < FEWEST_TRIALS:
        return {**found, "text": f"{TOO_FEW}, fewer than {FEWEST_TRIALS}."}
    places = _places(ended, direction)
    scores, num_seeds = places.mean(axis=1), places.shape[1]
    if not scores.any():
        return {**found, "text": "No key mattered: all trials came to the same."}
    if num_seeds > 1:
        noise = places.var(axis=1, ddof=1).mean() / num_seeds / scores.var(ddof=1)
        found["seed_noise"] = float(noise)
    epochs = _columns(trial["epochs"] for trial in ended)
    explained, *gains, _ = _gains([*blocks.values(), epochs], scores)
    found["explained"] = _mean(explained)
    if found["explained"]["interval"][0] <= 0:
        return {**found, "text": f"{TOO_FEW}: a random forest does not predict those left out."}
    ranked = sorted(zip(blocks, gains, strict=True), key=lambda item: -item[1].mean())
    found["keys"] = {path: _mean(gain) for path, gain in ranked}
    is_settled = _mean(ranked[0][1] - ranked[1][1])["interval"][0] > 0
    return {**found, "text": _sentence(found["keys"], is_settled)}


def _columns(values: Iterable[Any]) -> np.ndarray:
    """Return numbers as one column of their places in order, anything else as a column per value.

    A tree asks only which of two numbers is larger: places serve it as logarithms would.
    """
    values = list(values)
    present = [value for value in values if value is not ABSENT]
    is_number = all(isinstance(one, int | float) and not isinstance(one, bool) for one in present)
    middle = median_low(present if is_number else map(str, present))
    filled = [middle if value is ABSENT else value for value in values]
    known, places = np.unique(filled if is_number else list(map(str, filled)), return_inverse=True)
    return places[:, np.newaxis] if is_number else np.eye(len(known))[places]


def _places(trials: Sequence[dict[str, Any]], direction: str) -> np.ndarray:
    """Return the place of each run among those with its seed, the best highest, around 0.

    Returns:
        float64 array of shape (trials, seeds).
    """
    sign = 1 if direction == "max" else -1
    scores = [
        [-np.inf if run["score"] is None else sign * run["score"] for run in trial["runs"]]
        for trial in trials
    ]
    return stats.rankdata(scores, axis=0) - (len(trials) + 1) / 2


def _gains(blocks: list[np.ndarray], scores: np.ndarray) -> np.ndarray:
    """Return what the forest, and then each block of columns, explains of each trial's score.

    Args:
        blocks: arrays of shape (trials, columns).
        scores: float array of shape (trials,), with mean 0 and not all equal.

    Returns:
        float64 array of shape (1 + blocks, trials): the shares are the means over its rows.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    count, random = len(scores), np.random.default_rng(0)
    errors = np.zeros((1 + len(blocks), count))
    for seed in range(NUM_REPEATS):
        versions = [np.hstack(blocks)]
        for number, block in enumerate(blocks):
            shuffled = block[random.permutation(count)]
            versions.append(np.hstack([*blocks[:number], shuffled, *blocks[number + 1 :]]))
        for others, these in KFold(NUM_FOLDS, shuffle=True, random_state=seed).split(scores):
            forest = RandomForestRegressor(NUM_TREES, random_state=seed)
            forest.fit(versions[0][others], scores[others])
            predicted = [forest.predict(version[these]) for version in versions]
            errors[:, these] += (predicted - scores[these]) ** 2 / NUM_REPEATS
    errors_of_mean = (scores * count / (count - 1)) ** 2  # of the other trials
    explained = (errors_of_mean - errors[0]) / errors_of_mean.mean()
    return np.vstack([explained, (errors[1:] - errors[0]) / 2 / scores.var()])


def _mean(gains: np.ndarray) -> dict[str, Any]:
    mean = float(gains.mean())
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(gains) - 1) * stats.sem(gains))
    return {"share": mean, "interval": [mean - half, mean + half]}


def _sentence(keys: dict[str, Any], is_settled: bool) -> str:
    shares = [formatting.percent(one["share"], 0) for one in keys.values()]
    first, second, *_ = value_texts(dict.fromkeys(keys))
    largest = f"{shares[0]} of the differences between trials"
    if is_settled:
        return f"Of the keys, {first} mattered most: it makes {largest}."
    return (
        f"Of the keys, {first} ({largest}) and {second} ({shares[1]}) mattered most, too close to "
        "tell which of them more."
    )
