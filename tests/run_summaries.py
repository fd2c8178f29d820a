"""A whole `summary.json` of a run that nobody has trained."""

ROW = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
DATA = {
    "input_shape": [8, 8, 1],
    "class_names": ["0", "1"],
    "preprocessing": {"layout": "image", "image_size": [8, 8], "channels": 1, "scale": 1.0},
}


def run_summary(**changes):
    """Return what a completed run of one epoch says, with changes."""
    return {
        "status": "completed",
        "epochs": 1,
        "steps": 1,
        "seconds": 1.0,
        "first_batch_loss": 2.0,
        "diverged": None,
        "final": ROW,
        "best": {"metric": "val_accuracy", "row": ROW},
        "test": {"loss": 1.0, "accuracy": 0.5},
        "data": DATA,
        "findings": [],
        "protocol": "made up",
        "versions": {},
        "machine": {},
        "device": [],
    } | changes
