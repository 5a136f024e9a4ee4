"""Training data: arrays by name, matched to what a training step is fed, read as they are needed.

``sources``: where data may lie; ``finding``: the same for a model, with ``class_folders`` and ``class_names``, ``tables`` and
``nnunet``, made of ``single`` files and values; ``array_likes``, ``batches``: what a program holds in memory; ``arrays``,
``hdf5``, ``images``, ``nifti``, ``dicom``: the formats, which give ``lazy_arrays``; ``layouts``: axes; ``pictures``: colour,
size, centre; ``naming``, ``matching``: names, dtypes, shapes; ``labels``: class indices; ``levels``: one value for all;
``patches``, ``augmentation``, ``scaling``: what is done to samples; ``splitting``: by file; ``content``: a look at all values
first; ``sampling``, ``dataset``: batches; ``prefetching``: made ahead, by another process (``worker``, ``serving``);
``description``, ``remarks``: what a run keeps and says of its data.

Nothing is cast, padded, clipped or left out without being asked for or said.
"""

from tgdonnx.data.dataset import Dataset
from tgdonnx.data.finding import open_for
from tgdonnx.data.opening import open_dataset, open_like, open_training
from tgdonnx.data.options import AUGMENTATIONS, Augmentation, DataOptions
from tgdonnx.data.prefetching import Prefetched
from tgdonnx.data.scaling import STATISTICS, Linear, Scale, Scaling
from tgdonnx.data.sources import DataSource, Source, held, open_source
from tgdonnx.data.splitting import split

__all__ = [
    "AUGMENTATIONS",
    "STATISTICS",
    "Augmentation",
    "DataOptions",
    "DataSource",
    "Dataset",
    "Linear",
    "Prefetched",
    "Scale",
    "Scaling",
    "Source",
    "held",
    "open_dataset",
    "open_for",
    "open_like",
    "open_source",
    "open_training",
    "split",
]
