"""What every test runs under: no hub, no progress bars, and the cores shared out among workers."""

from __future__ import annotations

import os

# Before torch, transformers and wandb are imported, and inherited by the processes that tests start.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // _WORKERS)),
)
