# SPDX-License-Identifier: GPL-2.0
"""`make bench`: a change of the layout by today's ioctls and by what was proposed in 2022, in turn with one by a list.

All are in one kvm.ko, of the composed tree with baselines/ on top, and in one VM a bed and number of vCPUs.  QEMU counts
instructions instead of time (-icount), and runs CPUs in turn: a nanosecond is an instruction, of any CPU.  What is printed
are ratios within one VM, and exact counts.  Lines of JSON go to build/bench/results.jsonl; the table and the plots to
bench/, if all was measured, i.e. without BEDS=, and nothing failed.  A bar that is missed is no failure: it stands in the table."""
import itertools
import json
import os
import subprocess
import tomllib

import base
import boot
import debian
import paths
import registry
import run as runner
import selftests
import series
import table
import variant
from util import BUILD, HARNESS, REPO, Failure, main, relative, say, write_if_changed

PROGRAM = 'memory_region_list_perf_test'
TREE, RESULTS, PAGE = BUILD / 'bench-tree', BUILD / 'bench/results.jsonl', REPO / 'bench/README.md'
ALONG = ('beds', 'vcpus', 'workload', 'touch', 'entries')
FIELDS = {*ALONG, 'args', 'against'}
# Seconds for one call of the program.
TIMEOUT = 3000


def icount(seed):
    """The options of QEMU.  The same boot again has the same figures, but for the seed."""
    return '-icount', 'shift=0,sleep=off', '-seed', str(seed), '-rtc', 'base=2026-01-01,clock=vm'


def grid(text):
    """{(bed, vCPUs): [arguments]} of all that is to be measured."""
    found = {}
    for entry in tomllib.loads(text)['run']:
        if set(entry) != FIELDS:
            raise Failure(f'harness/bench.toml: each run has {", ".join(sorted(FIELDS))}.')
        for bed, vcpus, work, touch, entries in itertools.product(*(entry[f] for f in ALONG)):
            # A guest that yields ends its turn.
            args = ['-w', work, *entry['args'], '-y', '-v', str(vcpus), '-k', touch, '-c', ','.join(entry['against'])]
            found.setdefault((bed, vcpus), []).append(tuple(args + ['-n', str(entries)] * bool(entries)))
    return found


def jobs_of(reg, image, programs):
    beds = (os.environ.get('BEDS') or '').split()
    if set(beds) - set(paths.BEDS):
        raise Failure(f'BEDS= are of {", ".join(paths.BEDS)}.')
    for (bed, vcpus), calls in grid((HARNESS / 'bench.toml').read_text()).items():
        if beds and bed not in beds:
            continue
        tests = [registry.Test(f'{PROGRAM}-{i}', (bed,), TIMEOUT, args=args, binary=PROGRAM)
                 for i, args in enumerate(calls)]
        yield boot.Job(f'bench/list/{bed}/{vcpus}-vcpus/vm', image,
                       dict(reg.beds[bed], name=bed, cpus=vcpus + 2, more=icount(1)), tests, programs)


def rows_of(job, verdicts):
    """The lines of JSON of a VM, each with its bed.  One that was cut off fails its test, and no other."""
    for verdict in verdicts:
        for line in verdict.output.splitlines():
            if not line.startswith('{'):
                continue
            try:
                yield json.loads(line) | {'on': job.bed['name']}
            except ValueError:
                verdict.word, verdict.why = 'FAIL', f'{verdict.why} a line of JSON is cut off: {line[-60:]}'.strip()


def build():
    """(kernel, programs) with all contenders."""
    series.compose()
    commit = variant.baselines()
    series.checkout(commit, TREE)
    return debian.kernel(commit, BUILD / 'kmod-bench'), selftests.build(TREE, [PROGRAM, *paths.PROGRAMS], '-bench')


def write(rows, text):
    PAGE.parent.mkdir(exist_ok=True)
    write_if_changed(PAGE, text)
    # The python3 that Debian's packages are for.
    if subprocess.run(['/usr/bin/python3', HARNESS / 'plots.py', RESULTS, PAGE.parent], check=False).returncode:
        raise Failure(f'No plots of {relative(RESULTS)}; {relative(PAGE)} is written.')
    say(f'Written: {relative(PAGE)}, and a plot for each bed.')


def run(_):
    image, programs = build()
    reg = registry.load()
    old = list(paths.jobs(reg, programs, icount))
    jobs = old + list(jobs_of(reg, image, programs))
    done = sorted(runner.run_jobs(jobs), key=lambda each: jobs.index(each[0]))
    rows = [row for job, verdicts in done if job not in old for row in rows_of(job, verdicts)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    text = table.page(rows, base.version(), paths.table([(job, verdicts) for job, verdicts in done if job in old]))
    say(f'\n{text}\n{table.missed(text)}\nLines of JSON: {relative(RESULTS)}')
    failed = runner.summary(done, [])
    if not failed and 'not measured' not in text:
        write(rows, text)
    return failed


if __name__ == '__main__':
    main(run)
