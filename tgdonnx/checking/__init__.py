"""Can this model be trained here? Answered operator by operator, before anyone waits.

The answer is found by doing what `tgdonnx.build` and `tgdonnx.train` do first: cut, lower, and if nothing stands in the way,
build artifacts in a temporary place and open their session. For a masked model it is the answer to that selection; for
another, to the largest that scores can make (every filter with a finite importance). Of several outputs, where none is chosen,
it is the answer to the first that can be trained on.

What is found has a code; ``codes`` is the table of them.
"""

from tgdonnx.checking.codes import CODES, Code
from tgdonnx.checking.findings import Finding
from tgdonnx.checking.model import CheckReport, check

__all__ = ["CODES", "CheckReport", "Code", "Finding", "check"]
