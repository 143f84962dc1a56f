# SPDX-License-Identifier: GPL-2.0
"""`make model`: verify the model of the publication with Spin, and that bad protocols fail in it.

The model says what it claims and what it leaves out: model/memslot_list.pml.  Each line of the two tables here
is verified for each kind of gfn, in all interleavings; Spin is told to fail if that does not fit."""
import concurrent.futures
import re
import shutil
import subprocess
import time

from util import BUILD, JOBS, REPO, Failure, main, output, say

MODEL = REPO / 'model/memslot_list.pml'
OUT = BUILD / 'model'
KINDS = ('KEPT', 'STOPS', 'STARTS', 'MOVES', 'GOES', 'COMES')
CLAIMS = ('no-hole', 'no-stale-mapping', 'never-lost', 'all-or-nothing', 'no-deadlock', 'notifier-balance',
          'use-after-free')

# What has to hold, by macros, with the accesses of the first vCPU.
GOOD = (
    ('mappings', 2, ()),
    ('mappings, no gate', 1, ('NO_GATE',)),
    ('mappings, and the emulator', 1, ('EMULATE',)),
    ('dirty pages, write-protected', 2, ('DIRTY',)),
    ('dirty pages, logged by hardware', 2, ('DIRTY', 'PML')),
)
# Each bad protocol, the claim that it breaks, and with what that shows.
BAD = (
    ('GATE_ACROSS_SRCU', 'no-deadlock', 'MOVES', 1, ()),
    ('ARCH_LOCK_ACROSS_SRCU', 'no-deadlock', 'KEPT', 1, ()),
    ('NO_RECHECK', 'no-stale-mapping', 'MOVES', 1, ()),
    ('NO_FINAL_ZAP', 'no-stale-mapping', 'MOVES', 1, ()),
    ('NO_FLUSH', 'no-stale-mapping', 'GOES', 2, ()),
    ('NO_NOTIFIER_WAIT', 'notifier-balance', 'MOVES', 1, ()),
    ('WALK_INACTIVE', 'use-after-free', 'GOES', 1, ('DIRTY',)),
    ('WALK_INACTIVE', 'never-lost', 'MOVES', 1, ('DIRTY',)),
    ('NO_LEAVING', 'never-lost', 'STOPS', 1, ('DIRTY',)),
    ('LEAVING_FIRST', 'never-lost', 'GOES', 1, ('DIRTY',)),
    ('NO_KICK', 'never-lost', 'STOPS', 1, ('DIRTY', 'PML')),
    ('LATE_SRCU', 'never-lost', 'GOES', 1, ('DIRTY', 'PML')),
    ('NO_CARRY', 'never-lost', 'KEPT', 1, ('DIRTY',)),
    ('ARM_EARLY', 'never-lost', 'STARTS', 1, ('DIRTY',)),
    ('PUBLISH_FIRST', 'no-hole', 'KEPT', 1, ()),
    ('NO_WAIT', 'use-after-free', 'MOVES', 1, ()),
    ('FAIL_LATE', 'all-or-nothing', 'MOVES', 1, ()),
)


def broken(place, options):
    """The claim that the error trail in `place` ends with: the comment at the assertion."""
    trail = output(['spin', '-t', *options, MODEL.name], cwd=place)
    line = re.search(rf'{MODEL.name}:(\d+), Error: assertion violated', trail)
    if not line:
        return 'no-deadlock' if 'invalid end state' in (place / 'pan.out').read_text() else 'an error'
    name = re.search(r'/\* ([\w-]+) \*/$', MODEL.read_text().splitlines()[int(line[1]) - 1])
    return name[1] if name else 'an assertion'


def verify(kind, ops, macros):
    """(states, depth, seconds, the claim that broke or None)."""
    start = time.monotonic()
    place = OUT / '-'.join((kind, str(ops), *macros))
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    options = [f'-D{macro}' for macro in (f'KIND={kind}', f'OPS={ops}', *macros)]
    shutil.copy(MODEL, place)
    output(['spin', '-a', *options, MODEL.name], cwd=place)
    output(['gcc', '-O2', '-w', '-DSAFETY', '-DMEMLIM=8000', '-o', 'pan', 'pan.c'], cwd=place)
    got = subprocess.run(['./pan', '-m100000', '-w24'], cwd=place, text=True, capture_output=True)
    (place / 'pan.out').write_text(got.stdout + got.stderr)
    states = re.search(r'(\d+) states, stored', got.stdout)
    depth = re.search(r'depth reached (\d+), errors: (\d+)', got.stdout)
    if got.returncode or not states or not depth or (
            depth[2] == '0' and re.search('Search not completed|max search depth', got.stdout + got.stderr)):
        raise Failure(f'Spin did not finish, see {place.relative_to(REPO)}/pan.out.')
    claim = broken(place, options) if depth[2] != '0' else None
    if not claim:
        shutil.rmtree(place)
    return int(states[1]), int(depth[1]), time.monotonic() - start, claim


def all_kinds(pool, label, ops, macros):
    """One line of the first table, and whether all kinds hold."""
    got = list(pool.map(lambda kind: verify(kind, ops, macros), KINDS))
    claim = next((claim for *_, claim in got if claim), None)
    say(f'  {label:34} {ops} + 1   {sum(g[0] for g in got):>12,} {max(g[1] for g in got):>6} '
        f'{sum(g[2] for g in got):>6.0f}   {claim or "holds"}')
    return not claim


def bad(pool):
    """The second table, and whether each line of it fails as it has to."""
    jobs = [pool.submit(verify, kind, ops, (name, *macros)) for name, _, kind, ops, macros in BAD]
    right = 0
    for (name, want, kind, _, macros), job in zip(BAD, jobs):
        _, depth, seconds, claim = job.result()
        word = 'fails' if claim == want else f'WANTED {want}, GOT'
        right += claim == want
        say(f'  {" ".join((name, *macros)):34} {kind:8} {depth:>6} {seconds:>6.0f}   {word} {claim or "nothing"}')
    return right


def run(_):
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
        say(f'{MODEL.relative_to(REPO)}, all kinds of gfn: {", ".join(KINDS)}\n')
        say(f'  {"the protocol":34} accesses {"states":>11} {"depth":>6} {"CPU s":>6}')
        held = sum(all_kinds(pool, *line) for line in GOOD)
        say(f'\n  {"bad protocols":34} {"kind":8} {"depth":>6} {"CPU s":>6}')
        failed = bad(pool)
    wrong = len(GOOD) + len(BAD) - held - failed
    say(f'\nIn {time.monotonic() - start:.0f} s, trails of what fails in {OUT.relative_to(REPO)}.')
    say(f'{held + failed} passed, {wrong} failed, 0 skipped')
    return 1 if wrong else 0


if __name__ == '__main__':
    main(run)
