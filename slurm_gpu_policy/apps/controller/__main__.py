"""``python -m slurm_gpu_policy.apps.controller`` is ``gpu-policyd``."""

from __future__ import annotations

import sys

from slurm_gpu_policy.apps.controller.main import main

sys.exit(main())
