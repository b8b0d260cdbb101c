"""Print by how many MiB evaluating 10,000 rows raises the peak memory of the process; a test runs this."""

import resource

import torch

from tuplet.evaluation import retrieval

labels = torch.arange(10_000) // 10
x = torch.randn(1000, 16)[labels] + torch.randn(10_000, 16)
retrieval(x[:2000], labels[:2000])  # what torch allocates once is not counted
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
retrieval(x, labels)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)  # noqa: T201  its output
