"""Make sales.csv: five years of monthly figures of an invented shop. The numbers are nobody's; the same every time."""

from __future__ import annotations

import csv
import math
import random
import sys
from pathlib import Path

# category: units in the first month, growth a year, strength of the season, its best month, price, share of returns
CATEGORIES = {
    "Books": (820, 0.03, 0.30, 12, 16.5, 0.02),
    "Garden": (430, 0.08, 0.65, 5, 34.0, 0.05),
    "Kitchen": (610, 0.05, 0.20, 11, 42.0, 0.06),
    "Sports": (540, 0.11, 0.35, 6, 58.0, 0.09),
    "Toys": (690, 0.02, 0.75, 12, 23.0, 0.04),
}
FIRST_YEAR, YEARS, SEED = 2020, 5, 20200101
COLUMNS = ("month", "category", "units", "revenue", "returns")


def row(number: int, category: str, chance: random.Random) -> tuple[str, str, int, str, int]:
    """The figures of one category in the month `number`, counted from the first."""
    start, growth, strength, peak, price, returned = CATEGORIES[category]
    year, month = divmod(number, 12)
    season = 1 + strength * math.cos(2 * math.pi * (month + 1 - peak) / 12)
    units = round(start * (1 + growth) ** (number / 12) * season * chance.gauss(1, 0.06))
    revenue = units * price * 1.02**year * chance.gauss(1, 0.015)
    returns = round(units * returned * chance.uniform(0.7, 1.3))
    return f"{FIRST_YEAR + year}-{month + 1:02}", category, units, f"{revenue:.2f}", returns


def main(path: Path) -> None:
    chance = random.Random(SEED)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row(number, category, chance) for number in range(YEARS * 12) for category in CATEGORIES)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sales.csv"))
