"""All stages in one go, for one or more rounds.

``stages`` is the whole of it: ``checks`` says what is wrong before anything is written, ``rounds`` masks, builds, trains and
exports as often as asked, ``ending`` writes the tuned model, the result of applying it and the page. ``asked`` and ``reports``
are what goes in and what comes out; ``resuming`` opens what an earlier call left. ``examining`` tells before whether data
fits a model, ``rehearsing`` all that would be done.
"""

from tgdonnx.pipeline.asked import Results
from tgdonnx.pipeline.reports import FinetuneReport, Round
from tgdonnx.pipeline.stages import finetune

__all__ = ["FinetuneReport", "Results", "Round", "finetune"]
