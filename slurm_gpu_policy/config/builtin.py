"""The workload classes every site starts with, in the form of the policy file."""

from __future__ import annotations

from typing import Any

_LARGE = ["b200", "h200", "h100", "a100", "*"]
_SMALL = ["l4", "a10", "l40s", "a100", "h100", "*"]

WORKLOADS: dict[str, dict[str, Any]] = {
    "training": {
        "description": "train or fine-tune a model; wants the largest GPUs",
        "pools": _LARGE,
        "default_time": "24h",
    },
    "inference": {
        "description": "serve or evaluate a model; wants the smallest GPU that holds it",
        "pools": _SMALL,
        "default_time": "8h",
    },
    "embedding": {
        "description": "turn documents into vectors; can run on CPUs",
        "pools": _SMALL,
        "default_time": "4h",
        "cpu_fallback": {"allowed": True},
    },
    "ocr": {
        "description": "read text from images; can run on CPUs",
        "pools": _SMALL,
        "default_time": "4h",
        "cpu_fallback": {"allowed": True},
    },
    "graph_processing": {
        "description": "graph analytics and graph networks; can run on CPUs",
        "pools": ["a100", "h100", "h200", "*"],
        "default_time": "8h",
        "cpu_fallback": {"allowed": True},
    },
    "generic": {
        "description": "anything else",
        "pools": ["*"],
        "cpu_fallback": {"allowed": True},
    },
    "interactive": {
        "description": "a shell or notebook with somebody in front of it",
        "pools": _SMALL,
        "default_time": "2h",
        "template": "interactive",
        "partitions": ["interactive"],
    },
}
