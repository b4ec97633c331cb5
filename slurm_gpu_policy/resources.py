"""Where the files that are no Python lie: a wheel carries them, a checkout has them beside us.

``templates/`` and ``slurm_conf/`` stand at the top of the checkout. A wheel holds them in
``slurm_gpu_policy/_data/``; an editable install and a plain checkout use the folders themselves.
"""

from __future__ import annotations

import os.path

_PACKAGE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs 4 ms
_ROOTS = (os.path.join(_PACKAGE, "_data"), os.path.dirname(_PACKAGE))  # noqa: PTH118, PTH120


def folder(name: str) -> str:
    """Return the path of ``templates`` or ``slurm_conf``.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for root in _ROOTS:
        path = os.path.join(root, name)  # noqa: PTH118
        if os.path.isdir(path):  # noqa: PTH112
            return path
    msg = f"this installation of slurm-gpu-policy lacks its folder {name!r}: looked in {_ROOTS}"
    raise FileNotFoundError(msg)
