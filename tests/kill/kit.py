"""What the kill tests share, besides fixtures."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# `make torture` asks for more.
TIMES = int(os.environ.get("MEDGEMMA_TORTURE", "1"))

Drive = Callable[..., dict[str, Any]]


def merged(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """One report of several: counts added up, lists joined."""
    whole: dict[str, Any] = {}
    for report in reports:
        for name, value in report.items():
            if isinstance(value, dict):
                whole[name] = Counter(whole.get(name, {})) + Counter(value)
            else:
                whole[name] = whole[name] + value if name in whole else value
    return whole
