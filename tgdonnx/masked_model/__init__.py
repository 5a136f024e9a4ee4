"""The file format of masked models: the vendor's file with retrain masks in it.

**Format 1.** To the bytes of the vendor's file are added, and nothing else changes:

- at the end of the graph, for every retrainable tensor ``p`` an initializer ``p.retrain_mask``: float32, 1 where ``p``
  trains and 0 where it is frozen, of a shape that broadcasts against ``p``: ``[M, 1, ...]`` for the weight of a layer with
  M filters, ``[M, C / group, 1, ...]`` where masks are per kernel, ``[M]`` for one number per map. No node reads them. In
  files of IR version 3, which want every initializer among the graph's inputs, they are listed there too.
- at the end of the file, the metadata ``tgdonnx.format`` ("1"), ``tgdonnx.selection`` (JSON: what was asked for) and
  ``tgdonnx.base_sha256`` (of the vendor's file, in hex).

Taking these away gives the vendor's file back, byte for byte.

A vendor's model with external data is masked with a copy of that data in a file of its own, ``masked.onnx.data``, see
`tgdonnx.files.relocation`. Then there is one more entry of metadata, ``tgdonnx.vendor_external_data``: JSON, for each external
tensor in the order of `tgdonnx.files.tensors.walk_tensors` the keys and values of ``external_data`` as the vendor has them. To
get the vendor's file, these have to be put back as well.

**Format 2** (mode ``regrow``) is for models that do not start training from the vendor's values. The tensors hold the values
that training starts from, where they lie in the vendor's file or, in a copy, in its external data; so the masked model runs
anywhere and gives the outputs of that start. To what format 1 adds come:

- for every tensor ``p`` that is not the vendor's any more an initializer ``p.vendor_values``: the vendor's, of the type and
  shape of ``p``.
- for tensors with elements that were given a value but do not train an initializer ``p.set_mask``, as ``p.retrain_mask``: 1
  for elements that keep the value that stands in the masked file.
- the metadata ``tgdonnx.vendor_values_sha256``: of these tensors, in the order of their names, each as the UTF-8 of its name,
  a zero byte and its elements, row-major and little-endian. What lies in external data is in no other hash.

Taking these away, and putting the vendor's values back into their places, gives the vendor's file, byte for byte.

**Format 3** (mode ``adapter``) is as format 1, and has side paths besides: nodes, initializers and one name per path, as
`tgdonnx.adapting.widening` puts them into the vendor's file. They follow from that file and from the selection, which says
``rank`` and ``seed``. Taking masks, metadata and side paths away gives the vendor's file, byte for byte.

A masked model is invalid if that does not give ``base_sha256``; if a mask belongs to no tensor, does not broadcast against it
or holds anything but 0 and 1; if the format is newer. One of format 2 is invalid, too, if the vendor's values are not those of
the hash, if they differ in any bit from those in place where neither mask is 1, or if both masks are 1 for the same element.
One of format 3 is invalid if putting the side paths into the vendor's file anew gives another file, or if a mask is 1 for
anything else.

    additions   what is added, and how it is told     checks     what must hold of it
    writing     the vendor's file -> masked file      reading    and back
    vendor      the vendor's model out of a masked one
"""

from tgdonnx.masked_model.additions import GATE_KEY, SUFFIX, is_masked, metadata_bytes, require_unmasked
from tgdonnx.masked_model.reading import MaskedModel, read_masked
from tgdonnx.masked_model.vendor_file import runnable_vendor, write_vendor
from tgdonnx.masked_model.writing import masked_bytes, write_masked

__all__ = [
    "GATE_KEY",
    "SUFFIX",
    "MaskedModel",
    "is_masked",
    "masked_bytes",
    "metadata_bytes",
    "read_masked",
    "require_unmasked",
    "runnable_vendor",
    "write_masked",
    "write_vendor",
]
