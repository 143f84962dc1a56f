# SPDX-License-Identifier: GPL-2.0
"""What the series costs those who don't use it: paths that every kernel has, on the base and with the series.

One CPU, and QEMU counts instructions instead of time: the same boot again has the same figures."""
import json
import os
import statistics

import boot
import debian
import registry
import series
from util import BUILD

PROGRAM = 'x86_64/memslot_paths_perf_test'
BEDS = ('npt', 'no-tdp-mmu', 'shadow')
TIMEOUT = 600
LIMIT = 0.5     # percent


def wanted_beds():
    """Those of BEDS=, if there are any."""
    beds = (os.environ.get('BEDS') or '').split()
    return [bed for bed in BEDS if not beds or bed in beds]


def jobs(reg, binaries, icount):
    kernels = {'base': debian.kernel('base', BUILD / 'kmod-base'), 'series': debian.kernel('composed', BUILD / 'kmod')}
    test = registry.Test('memslot_paths_perf_test', BEDS, TIMEOUT, args=('9',), binary=PROGRAM)
    for where, image in kernels.items():
        for bed in wanted_beds():
            yield boot.Job(f'bench/{where}/{bed}', image, dict(reg.beds[bed], name=bed, cpus=1, more=icount), [test],
                           binaries)


def rows(done):
    """{(path, bed): {'base' or 'series': its samples}}."""
    found = {}
    for job, verdicts in done:
        _, where, bed = job.label.split('/')
        for line in '\n'.join(verdict.output for verdict in verdicts).splitlines():
            if line.startswith('{"kind": "path"'):
                row = json.loads(line)
                found.setdefault((row['path'], bed), {})[where] = row['ns']
    return found


def more(sides):
    base, with_series = (statistics.median(sides[where]) for where in ('base', 'series'))
    return 100 * (with_series - base) / base


def cell(sides):
    base, with_series = (statistics.median(sides[where]) for where in ('base', 'series'))
    got = more(sides)
    return f'{base:,.0f} / {with_series:,.0f}, {got:+.2f} %' + ('' if got <= LIMIT else ' **missed**')


def table(done):
    found = rows(done)
    beds = wanted_beds()
    text = f'| path | {" | ".join(beds)} |\n|---|{"---|" * len(beds)}\n'
    for path in dict.fromkeys(path for path, _ in found):
        text += f'| {path} | ' + ' | '.join(cell(found[path, bed]) for bed in beds) + ' |\n'
    return text
