# SPDX-License-Identifier: GPL-2.0
"""`make check`: all that needs no VM.  Each step runs, whatever the ones before came to."""
import os
import subprocess
import sys
import time

import base
import claims
import docs
import mutants
import roundtrip
import selftests
import series
import sites
import syzlang
import variant
from util import BUILD, HARNESS, REPO, Failure, logged, main, output, say

UAPI = 'linux/kvm_memory_region_list.h'
# Every field has a place that is the same for 32-bit and 64-bit callers.
LAYOUT = {
    'kvm_userspace_memory_region_list': (32, {'nent': 0, 'flags': 4, 'as_id': 8, 'error_index': 12,
                                              'reserved': 16, 'entries': 32}),
    'kvm_userspace_memory_region_list_entry': (64, {
        'slot': 0, 'flags': 4, 'guest_phys_addr': 8, 'memory_size': 16, 'userspace_addr': 24,
        'guest_memfd_offset': 32, 'guest_memfd': 40, 'dirty_bitmap_size': 44, 'dirty_bitmap': 48,
        'reserved': 56}),
}


class Skip(Exception):
    """Why a step is not possible; never for something that is merely broken."""


def ignored():
    lines = (HARNESS / 'checkpatch.ignore').read_text().splitlines()
    types = [line for line in lines if line and not line.startswith('#')]
    if len(types) > 5:
        raise Failure('harness/checkpatch.ignore has more than five types.')
    return types


def checkpatch():
    """checkpatch --strict on each mail."""
    letters = sorted(path for path in (BUILD / 'check-mail').glob('*.patch') if '0000-' not in path.name)
    if not letters:
        raise Failure('no mail to check: the step mail failed.')
    argv = ['perl', series.TREE / 'scripts/checkpatch.pl', f'--root={series.TREE}', '--strict',
            '--terse', '--show-types', '--no-summary', '--ignore', ','.join(ignored()), *letters]
    env = dict(os.environ, PATH='/usr/bin:' + os.environ['PATH'])
    got = subprocess.run([str(a) for a in argv], text=True, capture_output=True, env=env,
                         cwd=series.TREE)
    if got.returncode or got.stdout.strip():
        raise Failure(got.stdout.replace(str(BUILD) + '/', '') + got.stderr + 'checkpatch: mend what it lists.')


def uapi():
    """The header compiles in userspace on its own and lays its structures out as agreed; syzkaller's description agrees."""
    include = selftests.headers(series.TREE)
    code = f'#include <{UAPI}>\n#include <linux/kvm.h>\n'
    for name, (size, fields) in LAYOUT.items():
        code += f'_Static_assert(sizeof(struct {name}) == {size}, "size of {name}");\n'
        code += ''.join(f'_Static_assert(__builtin_offsetof(struct {name}, {field}) == {place}, '
                        f'"place of {field}");\n' for field, place in fields.items())
    code += ''.join(f'#ifndef {name}\n#error {name} of syzlang/ is not defined\n#endif\n' for name in syzlang.check(LAYOUT))
    for machine in ('-m64', '-m32'):
        output(['gcc', '-Wall', '-Wextra', '-Werror', '-std=c99', machine, '-nostdinc', '-isystem', include,
                '-fsyntax-only', '-x', 'c', '-'], input=code)


def planner():
    """The planner's tests in userspace, under ASan and UBSan."""
    directory = series.TREE / 'tools/testing/kvm_memslot_plan'
    if not directory.exists() and not (REPO / 'tools/testing/kvm_memslot_plan').exists():
        raise Skip('the series has no tools/testing/kvm_memslot_plan')
    (BUILD / 'plan').mkdir(exist_ok=True)
    text = logged('Planner tests', ['make', '-C', directory, f'OUTPUT={BUILD / "plan"}', 'test'],
                  BUILD / 'log/planner.log')
    say('    ' + text.strip().splitlines()[-2])


def harness_tests():
    """The harness' own tests, most of them on recorded consoles."""
    logged('Harness tests', [sys.executable, '-m', 'unittest', 'discover', '-s', HARNESS, '-p', 'test_*.py'],
           BUILD / 'log/harness-tests.log')


def shell():
    """shellcheck on all shell of the project."""
    names = [path for path in (REPO / '.ci/run', *HARNESS.rglob('*.sh')) if path.exists()]
    output(['shellcheck', *names])


def sizes():
    """No file of the harness over 250 lines, no README over 100, no new kernel file over 500."""
    limits = {path: 250 for path in HARNESS.rglob('*')
              if path.suffix in ('.py', '.c', '.toml', '.sh') and 'testdata' not in path.parts}
    limits[REPO / 'README.md'] = 100
    limits |= {path: 500 for path in series.overlay(REPO).values() if path.suffix in ('.c', '.h')}
    long = [str(path.relative_to(REPO)) for path, limit in limits.items()
            if len(path.read_text().splitlines()) > limit]
    if long:
        raise Failure(f'{", ".join(sorted(long))}: too long, split it.')


STEPS = {
    'compose': series.compose, 'round trip': roundtrip.split, 'mail': roundtrip.apply_mail,
    'checkpatch': checkpatch, 'uapi header': uapi, 'documents': docs.check, 'claims': claims.check,
    'fault sites': sites.check, 'planner': planner,
    'mutants apply': mutants.check, 'baselines apply': variant.baselines, 'harness tests': harness_tests,
    'shellcheck': shell, 'file sizes': sizes,
}


# What says something even when the series does not compose.
ALONE = ('compose', 'claims', 'fault sites', 'harness tests', 'shellcheck', 'file sizes')


def step(name, function, composed):
    """Run one step; its word."""
    start, word, why = time.monotonic(), 'PASS', ''
    try:
        if not composed and name not in ALONE:
            raise Failure('not run: it needs the composed tree')
        function()
    except Skip as reason:
        word, why = 'SKIP', str(reason)
    except Failure as error:
        word, why = 'FAIL', str(error)
    say(f'{word} {name} ({time.monotonic() - start:.0f} s) {why}'.rstrip())
    return word


def run(names):
    unknown = set(names) - set(STEPS)
    if unknown:
        raise Failure(f'the steps are: {", ".join(STEPS)}.')
    base.ensure()
    words, composed = [], True
    for name in names or STEPS:
        words.append(step(name, STEPS[name], composed))
        composed = composed and not (name == 'compose' and words[-1] == 'FAIL')
    say(f'{words.count("PASS")} passed, {words.count("FAIL")} failed, {words.count("SKIP")} skipped')
    return 1 if 'FAIL' in words else 0


if __name__ == '__main__':
    main(run)
