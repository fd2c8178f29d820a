"""What an export says about itself to a person, from what its metadata says to programs."""

from typing import Any


def model_card(name: str, facts: dict[str, Any]) -> str:
    """Return the model card of an export, in Markdown.

    Args:
        name: the model's, as it is served.
        facts: the content of its `bnzoo.json`.
    """
    parts = [
        f"# {name}",
        _what_it_is(facts),
        "## Use",
        _use(facts),
        "## Data and measured quality",
        _quality(facts),
        "## Exactness",
        _exactness(facts),
        "## Made with",
        "\n".join(f"- {package} {version}" for package, version in facts["versions"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _what_it_is(facts: dict[str, Any]) -> str:
    shape = " x ".join("any" if size is None else str(size) for size in facts["input_shape"])
    names = facts["class_names"]
    told = f", {len(names)} classes" if names else ""
    made = "merged into its neighbours" if facts["folded"] else "as it was trained"
    config = facts.get("config")
    network = f"`{facts['model']}`"
    if config:
        network += f" (batch normalization: {config['model'].get('placement', 'none')})"
    return f"The network {network} on inputs of {shape}{told}. Batch normalization: {made}."


def _use(facts: dict[str, Any]) -> str:
    lines = []
    for signature, spec in facts["signatures"].items():
        inputs, outputs = (_tensors(spec[side]) for side in ("inputs", "outputs"))
        lines.append(f"- `{signature}` takes {inputs} and answers {outputs}.")
    if facts["preprocessing"] and "serve_bytes" in facts["signatures"]:
        size = " x ".join(str(side) for side in facts["preprocessing"]["image_size"])
        lines.append(
            f"\nEncoded images (PNG, JPEG) are resized to {size} pixels and scaled inside the "
            "graph, as in training."
        )
    if facts["class_names"]:
        lines.append("\nClasses in order: " + ", ".join(facts["class_names"]) + ".")
    return "\n".join(lines)


def _tensors(specs: dict[str, dict[str, Any]]) -> str:
    return ", ".join(
        f"`{name}` ({spec['dtype']}, {_shape(spec['shape'])})" for name, spec in specs.items()
    )


def _shape(shape: list[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _quality(facts: dict[str, Any]) -> str:
    data, test = facts.get("data"), facts.get("test")
    if not data:
        return "Not known: it was exported from a model file, not from a run."
    counts = data["examples"]
    text = (
        f"Trained on `{data['name']}`: {counts['training']:,} examples, and "
        f"{counts['validation']:,} for validation."
    )
    if test:
        measured = ", ".join(f"{name} {value:.4f}" for name, value in test.items())
        text += f" On {counts['test']:,} test examples: {measured}."
    return text + " On other data it may do worse; nothing was measured there."


def _exactness(facts: dict[str, Any]) -> str:
    parity = facts["parity"]
    return (
        f"Loaded in a new process it differs from the trained model by at most "
        f"{parity['largest_relative_difference']:.1e} of the largest answer (allowed "
        f"{parity['allowed']:g}), on {parity['inputs']}, in batches of "
        f"{', '.join(str(size) for size in parity['batch_sizes'])}. "
        "A row of inputs with a NaN in it answers NaN and `class_id` -1."
    )
