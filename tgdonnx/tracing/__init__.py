"""Which filters of earlier layers made each input map of each layer.

``origins``: what a map was made from; ``provenance``: the walk through the graph; ``rule``, ``rules``: what a rule is, and
all of them; one module per operator family beside; ``report``: the answer for people and programs.
"""

from tgdonnx.tracing.origins import Origin
from tgdonnx.tracing.provenance import Provenance, trace_network
from tgdonnx.tracing.report import LayerTrace, MapTrace, Producer, TraceReport, trace

__all__ = ["LayerTrace", "MapTrace", "Origin", "Producer", "Provenance", "TraceReport", "trace", "trace_network"]
