"""Writes other_writer.safetensors (with the safetensors package) and made_by_numpy.npy."""
import os

import numpy as np
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
save_file({"grid": (np.arange(6, dtype=np.float32) / 4).reshape(2, 3), "counts": np.array([3, -5000000000], dtype=np.int64)},
          os.path.join(here, "other_writer.safetensors"), metadata={"made by": "numpy"})
np.save(os.path.join(here, "made_by_numpy.npy"), (np.arange(6) / 2).reshape(3, 2))
