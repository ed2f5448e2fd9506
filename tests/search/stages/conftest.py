"""Backbones are cut on one thread, as in a worker."""

import torch

torch.set_num_threads(1)
