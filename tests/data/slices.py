"""DICOM slices with any values, also wrong ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

POSITION = b"\x20\x00\x32\x00DS"
ROWS = b"\x28\x00\x10\x00US"


def write(path: Path, place: float, **values: Any) -> None:
    """Writes a slice of 4 x 6 at a place along z; ``values`` are of elements, None leaves one out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{int(place * 10)}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = 4, 6, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, place]
    data.RescaleSlope, data.RescaleIntercept = 2, 1
    data.PixelData = np.arange(24, dtype=np.uint16).tobytes()
    for name, value in values.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that bend the standard, which is what is wanted
        data.save_as(
            path, **({"enforce_file_format": True} if hasattr(data, "buffer") else {"write_like_original": False})
        )
