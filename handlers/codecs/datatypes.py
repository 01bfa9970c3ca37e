"""The datatypes of the Open Inference Protocol as NumPy's dtypes."""

from __future__ import annotations

import numpy

DATATYPES = {
    "BOOL": numpy.dtype("bool"),
    "UINT8": numpy.dtype("uint8"),
    "UINT16": numpy.dtype("<u2"),
    "UINT32": numpy.dtype("<u4"),
    "UINT64": numpy.dtype("<u8"),
    "INT8": numpy.dtype("int8"),
    "INT16": numpy.dtype("<i2"),
    "INT32": numpy.dtype("<i4"),
    "INT64": numpy.dtype("<i8"),
    "FP16": numpy.dtype("<f2"),
    "FP32": numpy.dtype("<f4"),
    "FP64": numpy.dtype("<f8"),
    # NumPy has no bfloat16: it is the upper half of a float32, and is passed on as one.
    "BF16": numpy.dtype("<f4"),
}

# By dtype in the machine's byte order.
DATATYPE_NAMES = {dtype: name for name, dtype in DATATYPES.items() if name != "BF16"}
