# SPDX-License-Identifier: GPL-2.0
"""Plan the VMs of `make test`, `test-all`, `soak`, `faults` and `demo`, run as many at a time as there are CPUs, and report."""
import concurrent.futures
import os
import re
import time

import base
import boot
import debian
import judge
import kernel
import registry
import selftests
import series
from util import BUILD, Failure, git, main, relative, say

NOISE = re.compile(r'(today|list): \d+ transactions|Random seed|mrl-compare ')
LIST_CALLS = re.compile(r'^mrl-compare side=list .*?transactions=(\d+)', re.M)


def boots_of(tests, where, bed):
    """(name, tests) of each boot: one a test, so that a VM that dies takes one test with it.
    Those that skip on the base share a boot."""
    tests = [test for test in tests if bed in test.beds and (where != 'base' or test.base != 'none')]
    skipping = [test for test in tests if where == 'base' and test.base == 'skip']
    yield from ((test.name, [test]) for test in tests if test not in skipping)
    if skipping:
        yield 'skips', skipping


def jobs_of(tests, reg, kernels, binaries, lane, machine='qemu'):
    for where, image in kernels.items():
        for bed in (name for name in reg.beds if boot.machine(reg.beds[name]) == machine):
            if where == 'base' and bed in registry.delayed(reg):
                continue
            for name, together in boots_of(tests, where, bed):
                yield boot.Job(f'{lane}/{where}/{bed}/{name}', image, dict(reg.beds[bed], name=bed),
                               together, binaries, reg.lanes[lane]['slower'],
                               registry.settings(reg, lane))


def label(job, name=''):
    place = job.label.split('/', 1)[1]
    return f'{place if len(job.tests) == 1 or not name else place.rsplit("/", 1)[0] + "/" + name:<60}'


def last_line(job):
    """What a VM that is running printed last."""
    lines = boot.read(BUILD / 'run' / job.label / 'console').splitlines() if boot.alive(job) else []
    return next((line for line in reversed(lines) if line.strip()), '')[:80]


def report(job, verdicts, place):
    """One line a test; for a failure what is needed to go on."""
    for verdict in verdicts:
        if verdict.name in ('unload', 'boot') and verdict.word == 'PASS':
            continue
        name = '' if verdict.name in {test.name for test in job.tests} else f' ({verdict.name})'
        say(f'{verdict.word} {label(job, verdict.name)} {verdict.seconds:4} s{name} {verdict.why}'.rstrip())
    if any(verdict.word == 'FAIL' for verdict in verdicts):
        tail = (place / 'console').read_text(errors='replace').splitlines()[-40:]
        say('    ' + '\n    '.join(tail))
        say(f'    console: {relative(place)}/console, repeat: sh {relative(place)}/command')


def without_the_fix(test, verdicts):
    """What a test of a fix came to where the fix is not: it has to fail as the registry says, and nothing else may."""
    first, rest = verdicts[0], verdicts[1:]
    as_said = re.search(test.fails, f'{first.why}\n{first.output}')
    if first.word == 'FAIL' and as_said and all(verdict.word == 'PASS' for verdict in rest):
        return [judge.Verdict(first.name, 'PASS', f'fails without the fix: {first.why}', first.seconds)]
    if first.word == 'PASS':
        return [judge.Verdict(first.name, 'FAIL', 'passes without the fix', first.seconds), *rest]
    return verdicts


def boot_job(job):
    verdicts, place = boot.boot(job)
    if job.tests[0].base == 'fail' and '/base/' in job.label:
        verdicts = without_the_fix(job.tests[0], verdicts)
    return verdicts, place


def run_jobs(jobs, show=report):
    """Run all; [(job, verdicts)].  Long tests first, so that the CPUs end together."""
    jobs = sorted(jobs, key=lambda job: -job.bed.get('slower', 1) * sum(test.timeout for test in job.tests))
    done, start = [], time.monotonic()
    workers = min(len(jobs), int(os.environ.get('VMS') or os.cpu_count() or 1)) or 1
    say(f'{len(jobs)} VMs, {workers} at a time; the command of each is in build/run/*/command.')
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(boot_job, job): job for job in jobs}
        try:
            while waiting:
                ready, _ = concurrent.futures.wait(waiting, 30, concurrent.futures.FIRST_COMPLETED)
                for future in ready:
                    job = waiting.pop(future)
                    verdicts, place = future.result()
                    show(job, verdicts, place)
                    done.append((job, verdicts))
                if not ready:
                    say(f'... {len(done)} of {len(jobs)} VMs done after {time.monotonic() - start:.0f} s')
                    for job in waiting.values():
                        if last_line(job):
                            say(f'    {label(job).strip()}: {last_line(job)}')
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            boot.stop_all()
            raise
    return done


def outcomes(done):
    """(name, test, word) of each test: FAIL if anything about the boot failed, else what it itself came to."""
    for job, verdicts in done:
        bad = any(verdict.word == 'FAIL' for verdict in verdicts[len(job.tests):])
        for test, verdict in zip(job.tests, verdicts):
            yield label(job, test.name).strip(), test, 'FAIL' if bad else verdict.word


def passed(job, verdicts):
    return all(word == 'PASS' for _, _, word in outcomes([(job, verdicts)]))


def compare_with_base(done):
    """A line for each verdict on the base that is not as the registry wants it."""
    words = {name: (test, word) for name, test, word in outcomes(done)}
    for name, (test, word) in sorted(words.items()):
        if not name.startswith('base/'):
            continue
        want = {'skip': 'SKIP', 'fail': 'PASS'}.get(test.base) or words['series' + name[4:]][1]
        if word != want:
            yield f'{name}: {word} on the base, wanted {want}'


def allow_base_skips(tests, where):
    return [t if where != 'base' or t.base != 'skip' else
            registry.dataclasses.replace(t, skip={bed: 'no such ioctl' for bed in t.beds}) for t in tests]


def summary(done, differences):
    words = [word for _, _, word in outcomes(done)]
    for line in differences:
        say(f'FAIL {line}')
    failed = words.count('FAIL') + len(differences)
    say(f'{words.count("PASS")} passed, {failed} failed, {words.count("SKIP")} skipped; tree '
        f'{git(base.LINUX, "rev-parse", "composed^{tree}")[:12]}')
    return 1 if failed else 0


def prove():
    """Whether the kernel is to verify itself, and beds with delays are to be run."""
    return os.environ.get('PROVE') == '1'


def kernels_of(lane, with_base):
    """{'series': kernel, 'base': kernel}, built."""
    build = debian.kernel if lane == 'debian' else lambda *args: kernel.kernel(lane, *args)
    name = 'kmod' if lane == 'debian' else f'k-{lane}'
    found = {'series': build('composed', BUILD / (name + '-prove' * prove()), prove())}
    if with_base:
        found['base'] = build('base', BUILD / f'{name}-base')
    return found


def wanted_tests(reg, kind, lane):
    """The tests that the command line asks for, on the beds it asks for; some beds are left to `make test-all`."""
    named = (os.environ.get('TESTS') or '').split()
    tests = registry.of_lane(registry.select(reg, named), lane, kind == 'faults', named)
    known = [bed for bed in reg.beds if prove() or bed not in registry.delayed(reg)]
    beds = (os.environ.get('BEDS') or '').split() or [
        name for name in known if kind == 'test-all' or not reg.beds[name].get('all')]
    if set(beds) - set(known):
        raise Failure(f'BEDS= are of {", ".join(known)}; those with delays need PROVE=1.')
    tests = [test for test in tests if kind != 'soak' or test.soak]
    return [registry.dataclasses.replace(t, beds=tuple(b for b in t.beds if b in beds)) for t in tests]


def intel_jobs(tests, reg, binaries):
    """Bochs is slow: a small kernel with KVM built in, the same for each lane, and the series alone."""
    if not any(boot.machine(reg.beds[bed]) == 'bochs' for test in tests for bed in test.beds):
        return []
    kernels = {'series': kernel.kernel('full', 'composed', BUILD / 'k-full')}
    return list(jobs_of(tests, reg, kernels, binaries, 'full', 'bochs'))


def test(kind):
    """`make test` or `make test-all`; on the series alone `make soak`, what can be run for long, and `make faults`."""
    reg, lane = registry.load(), os.environ.get('LANE') or {'soak': 'debug', 'faults': 'fault'}.get(kind, 'debian')
    if lane not in reg.lanes:
        raise Failure(f'LANE= is one of {", ".join(reg.lanes)}.')
    tests = wanted_tests(reg, kind, lane)
    with_base = kind not in ('soak', 'faults') and (os.environ.get('BASE_TOO') or '1') == '1'
    if kind == 'soak':
        seconds = 60 * int(os.environ.get('MINUTES') or 10)
        tests = [registry.soaked(t, seconds, reg.lanes[lane]['slower']) for t in tests]
    tree = series.compose()
    binaries = selftests.build(tree, registry.binaries(reg))
    jobs, kernels = intel_jobs(tests, reg, binaries), {}
    if any(boot.machine(reg.beds[bed]) == 'qemu' for test in tests for bed in test.beds):
        kernels = kernels_of(lane, with_base)
    jobs += [job for where in kernels for job in
            jobs_of(allow_base_skips(tests, where), reg, {where: kernels[where]}, binaries, lane)]
    done = run_jobs(jobs)
    if kind == 'soak':
        say('\n'.join(f'{label(job)}\n    {verdicts[0].output.strip()}' for job, verdicts in done))
    return summary(done, list(compare_with_base(done)))


def table_of(text):
    """What the demo printed, without its progress and its line for machines."""
    return '\n'.join(line for line in text.split('\n') if not NOISE.match(line)).strip('\n')


def demo():
    """One VM per bed, each with the same job done in both ways; then the tables, in the beds' order."""
    reg = registry.load()
    binaries = selftests.build(series.compose(), [reg.demo.program])
    jobs = list(jobs_of([reg.demo], reg, kernels_of('debian', False), binaries, 'debian'))
    done = run_jobs(jobs, lambda job, verdicts, place: passed(job, verdicts) or report(job, verdicts, place))
    for _, verdicts in sorted(done, key=lambda entry: jobs.index(entry[0])):
        say('\n' + table_of(verdicts[0].output))
    calls = sum(int(match) for _, verdicts in done for match in LIST_CALLS.findall(verdicts[0].output))
    say(f'\n{calls:,} calls of the new ioctl in all.')
    return summary(done, [])


def run(args):
    if args not in (['test'], ['test-all'], ['soak'], ['faults'], ['demo']):
        raise Failure('usage: run.py test | test-all | soak | faults | demo')
    return demo() if args == ['demo'] else test(*args)


if __name__ == '__main__':
    main(run)
