"""`predict`: images in, classes and probabilities out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import Json


@command("predict")
def predict(
    export: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="An exported model, or one of its versions.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each image.")] = 1,
    as_json: Json = False,
) -> dict[str, Any]:
    """Show which classes an exported model sees in images, and how probable they are."""
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.serving.prediction import predict_images

    rows = [("image", "class", "probability")]
    predictions = predict_images(export, images)
    for image, classes in zip(images, predictions, strict=True):
        for place, (name, probability) in enumerate(classes[:top]):
            rows.append(("" if place else str(image), name, f"{probability:.4f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for image, name, probability in rows:
        print(f"{image:<{widths[0]}}  {name:<{widths[1]}}  {probability:>{widths[2]}}")
    return {
        "predictions": [
            {
                "image": str(image),
                "classes": [
                    {"name": name, "probability": probability}
                    for name, probability in classes[:top]
                ],
            }
            for image, classes in zip(images, predictions, strict=True)
        ]
    }
