"""The format of gated models: the vendor's network and the tuned one in one file, and a number g that chooses between them.

From the vendor's file, the tuned one and a `Gate` every byte of the gated file follows (`writing.gated`), and from the vendor's
file and the gated one the tuned file (`reading.take_apart`). So a gated file is proved by writing it again.

    graph_bytes    a graph as its serialised fields, which are kept as they are
    record         the metadata ``tgdonnx.gate``
    names          how what is added is called
    detector       what decides on g, in plain nodes
    places         where that can look
    maps           one graph, in which reinitialised maps are multiplied by g
    branches       an If between both graphs, which share what is equal
"""
