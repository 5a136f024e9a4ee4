"""How much work a file may ask for. Each number is far above any honest model, and far below what would end the process.

A few kilobytes of ONNX can ask for 2^40 of anything. What exceeds a bound is refused, or left as if it could not be traced,
before the work begins; the message says the bound, what came and where.
"""

from __future__ import annotations

MODEL_BYTES = 2**31 - 1
"""Of a model file: protobuf has no longer messages. Weights beyond that are external data."""

MESSAGE_BYTES = 2**30
"""Of tensors in a graph that goes through protobuf whole, half of what a message holds: copies of some join them. Of larger
models frozen tensors lie beside it."""

ASIDE_BYTES = 2**16
"""Of a tensor that is worth a place beside a message."""

SHARED_BYTES = 2**26
"""Of tensors that several models of a directory hold: beyond that they hold the large ones together, in a file beside them."""

ZIP_BYTES = 2**31 - 1
"""Of what goes into a zip for a page or a device: many readers know no larger ones, and pages hold no larger buffers."""

CONFIG_BYTES = 2**24
"""Of a file with options: the longest that a person wrote has a few kilobytes."""

JOBS_BYTES = 2**28
"""Of a file of jobs: a million rows of a few columns."""

NODES = 2**19
"""Of a graph with its subgraphs and with its functions inlined: the largest vendors' graphs have some 20,000."""

INLINED_NODES = 2**16
"""Nodes that functions alone give; a model may have more if it has no functions, or if they are called once."""

ENTRIES = 2**17
"""Stored tensors, and declared values, of a graph: the largest vendors' have some 20,000. Every one becomes an object; what
goes through all of them takes half a minute for 200,000."""

TRIED_NODES = 1024
"""Of a model for which `check` opens a training session: with everything trained, onnxruntime-training 1.19.2 takes seconds for
1,000 nodes and minutes for 6,000, and `train` opens the session for what is selected anyhow."""

FUNCTION_DEPTH = 100
"""Of functions that call each other: exporters nest modules, 10 to 20 deep."""

INLINED_CLASHES = 2**26
"""For functions, the square of the number of calls by the number of nodes: names are made unique by trying. 2,500 calls of
a function of 10 nodes have 2^26; they take some seconds."""

GRAPH_DEPTH = 8
"""Of graphs inside nodes: 2 or 3 occur. Runtimes and checkers visit inner graphs again for every graph around them."""

LOOP_NODES = 2**30
"""Node executions of Loops whose numbers of rounds are stored in the file: a day of small nodes."""

CONSTANT_ELEMENTS = 2**28
"""Of a tensor that stored tensors alone determine: 1 GiB as float32. What is larger belongs into the file."""

ACTIVATION_ELEMENTS = 2**36
"""Of a value, where the largest input has no more than 2^16: 256 GiB as float32; no machine holds it."""

ACTIVATION_GROWTH = 2**20
"""Elements of a value for each element of the largest input."""

SHAPE_ELEMENTS = 4096
"""Of a tensor that can be the argument of a shape operation; what is larger is not looked at."""

KNOWN_ELEMENTS = 2**24
"""Of each tensor that is computed while a node is lowered, such as the grid of a GridSample: 4096 x 2048 positions."""

MAPS = 2**20
"""Filters, and input maps, of a layer: the widest have some 10,000, a matrix for words some 250,000."""

ORIGINS_PER_VALUE = 2**20
"""Places of an activation whose origins are told apart: channels, mostly, of which the widest layers have some 10,000."""

ORIGINS = 2**27
"""Such places of all activations together: 1 GiB. 20,000 nodes of 4,096 channels have 2^26."""

PRODUCERS = 2**21
"""Filters in the origins of all maps together, some 64 bytes each, and 800 in the answer of `trace`: along a trunk they grow
with the square of its depth. A ResNet of 152 layers has 2^20."""

FEW_PRODUCERS = 64
"""Of one origin; so many are kept in any case."""

LOWERED_ELEMENTS = 2**26
"""Of a tensor that a lowering writes in place of a node, such as an interpolation matrix: 256 MiB as float32."""

SHOWN_NAME = 200
"""Characters of a name in a reason that is told for many maps; longer ones are cut there."""
