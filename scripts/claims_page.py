"""The page of the papers' claims, from what `run_claims.py` recorded."""

from recorded import origin

from bnzoo.reporting import formatting
from bnzoo.reporting.claims import HOLDS, claim_row, recorded_claims

HEAD = """# What papers claim of batch normalization, and what came out here

Written by `scripts/make_results.py` from the JSON files here. `bnzoo claims` prints the first
table, and `bnzoo compare NAME --workers 2` runs a claim again; the head of its config names the
`--set` for more, which was not run.

Networks, data and steps are far below those of the papers, so that each claim takes less than half
an hour on 2 cores: what is compared is the direction of a difference, not a score. What had to come
out was written into the configs before they were run. Each difference is taken seed by seed and
judged by the 95 % interval of the paired t test, as in all studies: it holds, or its opposite is
settled, where the interval leaves 0 out; the intervals are not widened for their number. A run that
diverged counts with the accuracy of guessing, and one that never reached the baseline's best with
the length of the longest run. No effect is a result, too.
"""


def claims_page() -> str:
    """Return the whole page."""
    found = recorded_claims()
    rows = [("config", "claim", "published", "measured", "here"), ("---",) * 5]
    rows += [(f"[{one['name']}](#{one['name']})", *claim_row(one).values()) for one in found]
    lines = [HEAD, *(f"| {' | '.join(row)} |" for row in rows), ""]
    for one in found:
        lines += section(one)
    return "\n".join(lines)


def section(recorded: dict) -> list[str]:
    """Return all that is told of one claim."""
    name, summary, claim = recorded["name"], recorded["summary"], recorded["summary"]["claim"]
    seeds = formatting.listed(summary["seeds"])
    return [
        f"## {name}",
        "",
        f"{recorded['title']}",
        "",
        f"- Published: {claim['published']} ({claim['source']})",
        f"- Here: **{claim['verdict']}**.",
        f"- What differs: {claim['differs']}",
        "",
        f"![{name}: {recorded['title']}](figures/{name}.png)",
        "",
        "| expected | here | measured |",
        "|---|---|---|",
        *(
            f"| {one['text']} | {HOLDS[one['holds']]} | {one['measured']} |"
            for one in claim["expected"]
        ),
        "",
        f"    {recorded['command']}",
        "",
        f"{formatting.duration(recorded['seconds'])}, {len(summary['variants'])} variants, seeds "
        f"{seeds}; 2 workers, each {origin(recorded)}.",
        "",
    ]
