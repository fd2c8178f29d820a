"""Records of diagnoses, as `Diagnosis.to_json` has them."""

import copy

import numpy as np


def make_record(num_layers=52, healthy=False, data=True):
    """The record of a network whose layers are off, one more than the other; or of none."""
    random = np.random.default_rng(0)
    layers = [make_layer(number, healthy, data) for number in range(num_layers)]
    findings = [] if healthy else [make_finding(layer, data) for layer in reversed(layers)]
    findings += [
        {
            "kind": "redundant_bias",
            "title": "A bias that batch normalization takes away again",
            "level": "note",
            "layer": f"layer_{number}",
            "what": "The layer before it adds 16 numbers without an effect.",
            "numbers": {"parameters": 16},
            "what_to_do": "Set use_bias=False there.",
            "command": None,
        }
        for number in range(min(num_layers, 3))
    ]
    values = random.normal(2.0, 0.5, 4000)
    density, edges = np.histogram(values, 40, density=True)
    modes = {
        "inference": {"loss": 0.04 if healthy else 2.31, "accuracy": 0.99 if healthy else 0.11},
        "training": {"loss": 0.05, "accuracy": 0.985},
        "recalibrated": {"loss": 0.041, "accuracy": 0.991},
    }
    picture = {
        "layer": f"layer_{num_layers - 1}",
        "channel": 12,
        "edges": edges.tolist(),
        "density": density.tolist(),
        "moving": {"mean": 0.2, "variance": 0.64},
        "data": {"mean": 2.0, "variance": 0.25},
    }
    record = {
        "kind": "diagnosis",
        "model": "mobilenetv2",
        "source": "runs/digits",
        "data": "digits, training split" if data else None,
        "examples": 1437 if data else None,
        "batch_size": 32 if data else None,
        "values": [0.0, 1.0] if data else None,
        "verdict": "No problem found in 52 layers of batch normalization."
        if healthy
        else "The moving statistics of 52 layers do not fit the data, which costs 2.27 of loss.",
        "modes": modes if data else {mode: {} for mode in modes},
        "findings": findings,
        "layers": layers,
        "picture": None if healthy or not data else picture,
    }
    return copy.deepcopy(record)


def make_layer(number, healthy, data):
    distance = 0.01 * (1 + number % 5) if healthy else 0.05 * 1.08**number
    return {
        "name": f"layer_{number}",
        "class": "keras",
        "channels": 16 * (1 + number // 8),
        "momentum": 0.99,
        "frozen": None,
        "distance": distance if data else None,
        "noise": 0.03 if data else None,
        "cost": 0.002 * distance if data else None,
        "dead": 0,
        "folds": f"merged into 'conv_{number}'",
    }


def make_finding(layer, data):
    return {
        "kind": "far_statistics" if data else "few_steps",
        "title": "Moving statistics far from the data's" if data else "Too few steps",
        "level": "problem",
        "layer": layer["name"],
        "what": "Its moving mean is off by 3.1 standard deviations of the data.",
        "numbers": {"mean_off": 3.1, "spread_ratio": 0.2, "loss": layer["cost"]},
        "what_to_do": "Take the statistics of the data instead.",
        "command": "bnzoo recalibrate runs/digits --out repaired.keras",
    }
