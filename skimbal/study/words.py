"""Results in words and tables."""

import math

from tabulate import tabulate

__all__ = ["mean_std", "text_table"]


def mean_std(mean: float, std: float) -> str:
    return f"{mean:.3f}" + ("" if math.isnan(std) else f" ± {std:.3f}")


def text_table(rows: list[list[str]]) -> str:
    return str(tabulate(rows, tablefmt="plain", disable_numparse=True))
