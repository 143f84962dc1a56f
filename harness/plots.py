# SPDX-License-Identifier: GPL-2.0
"""The plots of `make bench`: what a change takes, and what guests lose, by entries and by vCPUs.

usage: plots.py RESULTS.jsonl DIRECTORY; writes an SVG for each bed."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use('svg')
# The same figures give the same file: no date, no random identifiers.
matplotlib.rcParams.update({'svg.hashsalt': 'bench', 'svg.fonttype': 'none', 'font.size': 9})

from matplotlib import pyplot  # noqa: E402 (the backend comes first)

CONTENDERS = {'ioctls': 'tab:red', 'stopped': 'tab:orange', 'pause': 'tab:purple', 'list2022': 'tab:brown',
              'list': 'tab:blue', 'none': 'tab:gray', 'kick': 'tab:green'}
WHAT = {'ns': 'instructions a change takes', 'lost_ns': 'guest time lost, all vCPUs'}
ALONG = {'entries': ('entries of the list, 2 vCPUs', {'vcpus': 2}), 'vcpus': ('vCPUs, 2 entries', {'entries': 2})}
WORKLOAD = 'split'


def points(rows, bed, contender, along, what):
    """[(x, (first quartile, median, third quartile))] of a contender; the list is measured in turn with each other."""
    fixed = ALONG[along][1] | {'on': bed, 'contender': contender, 'workload': WORKLOAD, 'kind': 'change', 'quirk': 1,
                              'touch': 'kept', 'pages': '4k', 'other': 0}
    found = {}
    for row in rows:
        if all(row.get(name) == value for name, value in fixed.items()) and what + '_med' in row:
            found.setdefault(row[along], []).append(row)
    medians = {x: sorted(same, key=lambda row: row[what + '_med'])[len(same) // 2] for x, same in found.items()}
    return [(x, [medians[x][f'{what}_{q}'] for q in ('q1', 'med', 'q3')]) for x in sorted(medians)]


def draw(axes, rows, bed, along, what):
    for contender, colour in CONTENDERS.items():
        found = points(rows, bed, contender, along, what)
        if not found or (contender in ('none', 'kick') and what == 'ns'):
            continue
        at = [x for x, _ in found]
        axes.plot(at, [y[1] for _, y in found], 'o-', color=colour, label=contender, markersize=3, linewidth=1)
        axes.fill_between(at, [y[0] for _, y in found], [y[2] for _, y in found], color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale('log' if along == 'entries' else 'symlog', base=2)
    axes.set_yscale('log')
    axes.set_xlabel(ALONG[along][0])
    axes.set_ylabel(WHAT[what])
    axes.grid(True, linewidth=0.3)
    ticks = sorted({x for c in CONTENDERS for x, _ in points(rows, bed, c, along, what)})
    axes.set_xticks(ticks, [f'{x:,}' for x in ticks])


def plot(rows, bed, path):
    figure, grid = pyplot.subplots(len(WHAT), len(ALONG), figsize=(9, 7), layout='constrained')
    for line, what in zip(grid, WHAT):
        for axes, along in zip(line, ALONG):
            draw(axes, rows, bed, along, what)
    figure.suptitle(f'{WORKLOAD}, {bed}: medians and quartiles, QEMU with -icount')
    grid[1][0].legend(fontsize=7)
    figure.savefig(path, metadata={'Date': None, 'Creator': None})
    pyplot.close(figure)


def run(results, place):
    rows = [json.loads(line) for line in pathlib.Path(results).read_text(encoding='utf-8').splitlines()]
    for bed in dict.fromkeys(row['on'] for row in rows):
        plot(rows, bed, pathlib.Path(place) / f'{bed}.svg')


if __name__ == '__main__':
    run(*sys.argv[1:])
