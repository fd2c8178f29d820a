"""What is wrong with the batch normalization of a trained model, and what repairs it.

diagnose.py    the entry point: measure, judge, sort
measuring.py   passes over the data: by the batch, in inference, with recalibrated statistics
places.py      where a layer stands: what feeds it, what it feeds
weights.py     what the weights alone tell
statistics.py  what the data tell
summary.py     all that was found, as JSON has it
record.py      the findings: as a table, as JSON, as a page
"""

from bnzoo.diagnosis.diagnose import diagnose
from bnzoo.diagnosis.record import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
