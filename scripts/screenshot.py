"""A page as a picture, with Chromium where it is installed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def screenshot(page: Path, picture: Path, width: int, height: int) -> bool:
    """Write the top of a page as PNG; tell whether there was a browser to do it.

    Args:
        page: an HTML file.
        picture: the PNG file to write.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *OPTIONS,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
        )
    return True
