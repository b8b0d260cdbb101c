"""What a run ran on: enough to explain why two runs of one recipe differ."""

import os
import platform
from typing import Any

import numpy as np
import torch

from tuplet import __version__
from tuplet.engine import Processes


def environment(device: torch.device, processes: Processes) -> dict[str, Any]:
    """Versions, machine and threads."""
    return {
        "tuplet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes.size,
    }
