# SPDX-License-Identifier: GPL-2.0
"""`make coverage`: which lines and branches of the new kernel files the tests run.

The tests of the series, on all beds that QEMU has, in a kernel that counts in these files (LANE=gcov); the last
program of each VM sends the counters.  Fails if a test does, if figures are below the bars, or if a line is not
covered and harness/uncovered.toml does not say why."""
import os
import re
import shutil

import boot
import gcov
import kernel
import registry
import run as runner
import selftests
import series
from util import BUILD, REPO, Failure, main, output, relative, say

LINES, BRANCHES = 95, 85
TOGETHER = 6
OUT = BUILD / 'coverage'
SEND = registry.Test('gcov', (), 120, binary='gcov')
SENT = re.compile(r'^[0-9a-f]{32} gcov /(\S+) ((?:[0-9a-f]{2})+)$', re.M)


def new_files():
    """The kernel files of the series that have code."""
    return [name for name in series.overlay(REPO) if name.startswith(('virt/', 'arch/', 'include/'))]


def tests_of(reg):
    """All tests of the new code, on the beds that are asked for."""
    names, beds = os.environ.get('TESTS', '').split(), os.environ.get('BEDS', '').split()
    return [registry.dataclasses.replace(test, beds=tuple(b for b in test.beds if not beds or b in beds))
            for test in registry.select(reg, names) if not test.lane and (names or test.base != 'same')]


def jobs_of(reg, image, binaries):
    """Several tests a boot."""
    tests = tests_of(reg)
    for bed in (name for name in reg.beds if boot.machine(reg.beds[name]) == 'qemu'):
        here = [test for test in tests if bed in test.beds]
        for number, together in enumerate(here[i:i + TOGETHER] for i in range(0, len(here), TOGETHER)):
            yield boot.Job(f'gcov/series/{bed}/{number}', image, dict(reg.beds[bed], name=bed),
                           [*together, SEND], binaries, reg.lanes['gcov']['slower'])


def counters(job, out):
    """Write what a VM has sent below a directory; return whether there was any."""
    root = str(BUILD / 'k-gcov').lstrip('/') + '/'
    found = SENT.findall(boot.read(BUILD / 'run' / job.label / 'channel'))
    for name, data in found:
        path = out / name.removeprefix(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes.fromhex(data))
    return bool(found)


def merge(jobs):
    """The sum of the counters of all VMs, with what the compiler says of them beside it."""
    shutil.rmtree(OUT, ignore_errors=True)
    total = None
    for number, job in enumerate(jobs):
        fresh = OUT / f'vm{number}'
        if not counters(job, fresh):
            raise Failure(f'build/run/{job.label}/channel has no counters.')
        if total:
            output(['gcov-tool-12', 'merge', '-o', OUT / f'sum{number}', total, fresh])
        total = OUT / f'sum{number}' if total else fresh
    for path in total.rglob('*.gcda'):
        name = path.relative_to(total).with_suffix('.gcno')
        shutil.copy(BUILD / 'k-gcov' / name, total / name)
    return total


def verdict(found):
    """Print the figures and the lines that are not covered; return what fails."""
    text, total = gcov.table(found)
    lines, unexplained = gcov.compare(found, gcov.reasons())
    say('\n'.join(['', *lines, '', text, '']))
    for name, got, bar in (('lines', gcov.percent(total.run, total.lines), LINES),
                           ('branches', gcov.percent(total.taken, total.branches), BRANCHES)):
        if got < bar:
            yield f'{got:.1f} % of {name}, wanted {bar} %'
    for name in (name for name, covered in found.items() if name.endswith('.c') and not covered):
        yield f'{name}: no line was counted'
    if unexplained:
        yield f'{unexplained} lines that are not covered have no reason in {relative(gcov.REASONS)}'


def run(_):
    reg, tree = registry.load(), series.compose()
    binaries = selftests.build(tree, registry.binaries(reg)) | {'gcov': boot.guest_program('gcov')}
    jobs = list(jobs_of(reg, kernel.kernel('gcov', 'composed', BUILD / 'k-gcov'), binaries))
    done = runner.run_jobs(jobs)
    return runner.summary(done, list(verdict(gcov.read(merge(jobs), tree, new_files()))))


if __name__ == '__main__':
    main(run)
