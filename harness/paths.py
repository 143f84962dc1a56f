# SPDX-License-Identifier: GPL-2.0
"""What the series costs those who don't use it: paths that every kernel has, on the base and with the series.

One CPU, and QEMU counts instructions instead of time: the same boot again has the same figures, and another seed has
others, by where things lie in memory: medians of a few boots.  The two upstream tests have threads that wait for each other,
and measure that, too."""
import itertools
import json
import os
import re
import statistics

import boot
import debian
import registry
import series
from util import BUILD

OURS, LOG, SLOTS = PROGRAMS = ('x86_64/memslot_paths_perf_test', 'dirty_log_perf_test', 'memslot_perf_test')
CALLS = (
    ('memslot_paths_perf_test', OURS, ('9',)),
    ('dirty_log_perf_test', LOG, ('-v', '1', '-b', '32M', '-i', '4')),
    *((f'memslot_perf_test-{i}', SLOTS, ('-l', '1', '-s', '512', '-f', str(i), '-e', str(i))) for i in range(6)),
)
BEDS = ('npt', 'no-tdp-mmu', 'shadow')
TIMEOUT = 600
SEEDS = (1, 2, 3, 4, 5)
LIMIT = 0.5     # percent
# Threads hand something over in these: what they measure is when the scheduler lets the other one run.
SHARED = re.compile('memory$|: iteration$')


def wanted_beds():
    """Those of BEDS=, if there are any."""
    beds = (os.environ.get('BEDS') or '').split()
    return [bed for bed in BEDS if not beds or bed in beds]


def jobs(reg, binaries, icount):
    kernels = {'base': debian.kernel('base', BUILD / 'kmod-base'), 'series': debian.kernel('composed', BUILD / 'kmod')}
    tests = [registry.Test(name, BEDS, TIMEOUT, args=args, binary=program) for name, program, args in CALLS]
    for where, bed, seed in itertools.product(kernels, wanted_beds(), SEEDS):
        yield boot.Job(f'bench/{where}/{bed}/seed-{seed}/vm', kernels[where],
                       dict(reg.beds[bed], name=bed, cpus=1, more=icount(seed)), tests, binaries)


def ns(seconds):
    return round(float(seconds) * 1e9)


def samples(output):
    """[(path, ns)] of what any of the programs has printed; ValueError if a line was cut off."""
    name = ''
    for line in output.splitlines():
        if line.startswith('{"kind": "path"'):
            row = json.loads(line)
            yield from ((row['path'], sample) for sample in row['ns'])
        elif match := re.match(r'(?:Iteration \d+ )?(.*) time: ([\d.]+)s$', line):
            yield f'dirty_log_perf_test: {match[1]}', ns(match[2])
        elif match := re.match(r'Testing (.*) performance', line):
            name = match[1]
        elif match := re.match(r'Test took ([\d.]+)s for slot setup', line):
            yield f'memslot_perf_test, {name}: setup', ns(match[1])
        elif match := re.match(r'Done \d+ iterations, avg ([\d.]+)s each', line):
            yield f'memslot_perf_test, {name}: iteration', ns(match[1])


def rows(done):
    """{(path, bed): {'base' or 'series': its samples, of all boots}}."""
    found = {}
    for job, verdicts in done:
        _, where, bed, *_ = job.label.split('/')
        for verdict in verdicts:
            try:
                for path, sample in list(samples(verdict.output)):
                    found.setdefault((path, bed), {}).setdefault(where, []).append(sample)
            except ValueError:
                verdict.word, verdict.why = 'FAIL', f'{verdict.why} a line is cut off'.strip()
    return found


def cell(path, sides):
    if set(sides) != {'base', 'series'}:
        return '**not measured**'
    base, with_series = (statistics.median(sides[where]) for where in ('base', 'series'))
    got = 100 * (with_series - base) / base
    missed = got > LIMIT and not SHARED.search(path)
    return f'{base:,.0f} / {with_series:,.0f}, {got:+.2f} %' + (' **missed**' if missed else '')


def table(done):
    found = rows(done)
    beds = wanted_beds()
    text = f'| path | {" | ".join(beds)} |\n|---|{"---|" * len(beds)}\n'
    for path in dict.fromkeys(path for path, _ in found):
        cells = [cell(path, found.get((path, bed), {})) for bed in beds]
        text += f'| {path}{" (no bar)" if SHARED.search(path) else ""} | {" | ".join(cells)} |\n'
    return text
