"""``python -m slurm_gpu_policy.apps.policy`` is ``gpu-policy``."""

from __future__ import annotations

import sys

from slurm_gpu_policy.apps.policy.main import main

sys.exit(main())
