"""What a paper says of batch normalization, and what must come out of a study if it holds."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from bnzoo.config.section import Section, each_once
from bnzoo.errors import nearest

NUMBERS = (
    "diverged",
    "epochs_to_baseline_best",
    "first_epoch_loss",
    "seconds_per_epoch",
    "steps_to_baseline_best",
)
"""Those of every study, besides `test_<metric>`."""

_FORM = re.compile(r"(?P<variant>[\w-]+) (?P<sign>[<>]) (?P<other>[\w-]+)(?: in (?P<number>\w+))?")


class Expectation(NamedTuple):
    """Of two variants, which has the higher number.

    Attributes:
        variant: the name of the first.
        sign: `>` or `<`, as in the text.
        other: the name of the second.
        number: a key of a variant in `summary.json`; None is what the study is judged by.
    """

    variant: str
    sign: Literal["<", ">"]
    other: str
    number: str | None


def expectation(text: str) -> Expectation:
    """Read an expectation.

    Args:
        text: such as `before > none` or `before < none in steps_to_baseline_best`.

    Raises:
        ValueError: it has another form, or names one variant twice.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError(
            f"expected VARIANT > VARIANT, or <, and perhaps in NUMBER, got {text!r}. For example "
            "before < none in steps_to_baseline_best."
        )
    one = Expectation(**found.groupdict())
    if one.variant == one.other:
        raise ValueError(f"expected two variants, got {one.variant!r} twice. Name another.")
    return one


def _checked(text: str) -> str:
    expectation(text)
    return text


class Claim(Section):
    """What a paper says of batch normalization, and what must come out here if it holds.

    Attributes:
        source: the paper, and the table, figure or section.
        published: what it says, with its numbers.
        differs: how this study differs from the published one, and what that may change.
        expected: what must come out, one difference each: `before > none` in test accuracy, or in
            another number of `summary.json`, as `before < none in steps_to_baseline_best`. Each is
            judged by the paired t test of all studies over the same seeds, with 95 %.
    """

    source: str
    published: str
    differs: str
    expected: Annotated[
        tuple[Annotated[str, AfterValidator(_checked)], ...], each_once("expectation")
    ] = Field(min_length=1, strict=False)

    def check_names(self, variants: Sequence[str], numbers: Sequence[str]) -> None:
        """Refuse what a study has no variant or number for.

        Args:
            variants: their names, that of the baseline too.
            numbers: of the study, besides `test_<metric>`, as metrics may be the user's own.

        Raises:
            ValueError: names the known ones.
        """
        for one in self.expectations():
            self._check_name("variant", one.variant, variants)
            self._check_name("variant", one.other, variants)
            if one.number and not one.number.startswith("test_"):
                self._check_name("number", one.number, [*numbers, "test_<metric>"])

    def _check_name(self, what: str, name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise ValueError(
                f"claim.expected: expected the name of a {what} ({', '.join(known)}), got "
                f"{name!r}. {nearest(name, known)}".rstrip()
            )

    def expectations(self) -> list[Expectation]:
        """Return what is expected, taken apart."""
        return [expectation(text) for text in self.expected]
