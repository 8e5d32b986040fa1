"""A plugin of pytest (PYTHONPATH=tests, -p torch_first): PyTorch is loaded before fastnn."""

import torch  # noqa: F401
