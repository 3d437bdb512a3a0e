"""Fits a straight line to each group of a CSV file, by least squares.

    fog run regression.py --file trees.csv -- trees.csv species girth height

The arguments are the file, the column of the groups, and those of x and y. Prints for each group
how many rows it has, slope, intercept, and the correlation of x and y; and bad rows on stderr.
"""

import csv
import statistics
import sys


def read(path, group, x, y):
    """Return the (x, y) pairs of each group, in order of the groups' names."""
    groups = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                pair = float(row[x]), float(row[y])
            except ValueError:
                print(f"line {number}: no number in {x} or {y}", file=sys.stderr)
                continue
            groups.setdefault(row[group], []).append(pair)
    return dict(sorted(groups.items()))


def main():
    """Print a line of results for each group."""
    if len(sys.argv) != 5:
        sys.exit("usage: regression.py FILE GROUP X Y")
    path, group, x, y = sys.argv[1:]
    print(f"{group},rows,slope,intercept,correlation")
    for name, pairs in read(path, group, x, y).items():
        if len(pairs) < 2 or len({value for value, _ in pairs}) == 1:
            print(f"{name}: too few different values of {x}", file=sys.stderr)
            continue
        xs, ys = zip(*pairs, strict=True)
        slope, intercept = statistics.linear_regression(xs, ys)
        correlation = statistics.correlation(xs, ys)
        print(f"{name},{len(pairs)},{slope:.6f},{intercept:.6f},{correlation:.6f}")


if __name__ == "__main__":
    main()
