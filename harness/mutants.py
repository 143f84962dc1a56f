# SPDX-License-Identifier: GPL-2.0
"""`make mutants`: break the kernel in one way after the other, and see that a test notices.

mutants/NAME.patch says which hazard or guarantee it attacks, which test has to fail, and in which way
(Fails:, a regular expression); its diff applies to the composed tree.  Also:, in some, is a regular expression for
the fuzzer, which has to find the mutant on the same beds within 10 minutes; Proved: one for the kernel that verifies
itself while the test runs, see PROVE=1.  Only KVM is rebuilt.  The table in mutants/README.md has a row of each."""
import dataclasses
import os
import re
import time

import boot
import debian
import kernel
import registry
import selftests
import series
import variant
from util import BUILD, REPO, Failure, main, relative, say, write_if_changed

PLACE = REPO / 'mutants'
TABLE = PLACE / 'README.md'
FUZZER, FUZZER_SECONDS = 'memory_region_list_fuzz_test', 600
HEAD = '''# Mutants

Each of these patches breaks the kernel in one way, and a test has to fail, on each bed that the patch names.
`make mutants` made this table (NAMES= runs some of them, for their rows); a mutant that survives is a missing test.

| attacks | mutant | what it does | noticed by | s |
|---|---|---|---|---|
'''


@dataclasses.dataclass
class Mutant:
    name: str
    hazard: str
    test: str
    beds: list
    what: str
    fails: str
    also: str = ''
    proved: str = ''
    lane: str = ''
    args: str = ''

    def row(self, found):
        """The row, but for its seconds; `found` as attack() returns it."""
        return f'| {self.hazard} | {self.name} | {self.what} | {noticed_by(found)} | '

    def who_has_to(self, reg):
        """[(test, bed)] that have to notice."""
        return [('the verifier' if verifies else test.name, bed) for test, bed, _, verifies in self.attacks(reg)]

    def attacks(self, reg):
        """(test, bed, how it has to fail, verifies) of all that has to notice.  A bed is for the first test that has it."""
        tests = {test.name: test for test in reg.tests}
        named = [tests[name] for name in self.test.split() if name in tests]
        by_bed = {bed: next((test for test in named if bed in test.beds), None) for bed in self.beds}
        if len(named) != len(self.test.split()) or not all(by_bed.values()):
            raise Failure(f'mutants/{self.name}.patch: the registry has no test {self.test} on {" ".join(self.beds)}.')
        wanted = [(dataclasses.replace(test, args=(*test.args, *self.args.split())), bed) for bed, test in by_bed.items()]
        found = [(test, bed, self.fails, False) for test, bed in wanted]
        if self.also:
            fuzzer = registry.soaked(tests[FUZZER], int(FUZZER_SECONDS * tests[FUZZER].soak), 1)
            found += [(fuzzer, bed, self.also, False) for bed in self.beds if bed in fuzzer.beds]
        return found + [(test, bed, self.proved, True) for test, bed in wanted if self.proved]


def parse(path):
    """A mutant from its file: a few header lines, then a diff."""
    fields = dict(re.findall(r'^(\w+): (.*)$', path.read_text().partition('diff --git')[0], re.M))
    if sorted(set(fields) - {'Also', 'Proved', 'Args', 'Lane'}) != ['Beds', 'Fails', 'Hazard', 'Test', 'What']:
        raise Failure(f'mutants/{path.name} needs the lines Hazard:, Test:, Beds:, What:, Fails: (how the test has '
                      'to fail), maybe Also: (how the fuzzer has to), Proved: (what the kernel WARNs of with PROVE=1), '
                      'Args: (for the test), Lane:, and a diff.')
    return Mutant(path.stem, fields['Hazard'], fields['Test'], fields['Beds'].split(), fields['What'],
                  fields['Fails'], *(fields.get(name, '') for name in ('Also', 'Proved', 'Lane', 'Args')))


def check():
    """All of them still apply, name a test, and have a row that says that all noticed which have to."""
    reg, rows = registry.load(), table_rows()
    for path in sorted(PLACE.glob('*.patch')):
        mutant = parse(path)
        variant.commit_of([path])
        if not rows.get(path.stem, '').startswith(mutant.row(dict.fromkeys(mutant.who_has_to(reg), 'yes'))):
            raise Failure(f'{relative(TABLE)} has no row of {path.stem} as it is: make mutants NAMES={path.stem}.')


def kernel_of(commit, bed, lane, prove):
    """Debian's with other modules; for Bochs, or if the mutant has a lane, one with KVM built in."""
    if boot.machine(bed) == 'bochs' or lane:
        return kernel.variant(lane or 'full', commit, BUILD / ('k-mutant' + f'-{lane}' * bool(lane)))
    return debian.kernel(commit, BUILD / ('kmod-mutant' + '-prove' * prove), prove)


def noticed(fails, verdicts):
    """Why the first verdict that is a failure is one, or None.  It has to be as the mutant says."""
    failed = next((verdict for verdict in verdicts if verdict.word == 'FAIL'), None)
    if not failed:
        return None
    if not re.search(fails, f'{failed.why}\n{failed.output}'):
        say(f'    {failed.name} fails, but not with "{fails}": {failed.why}\n{failed.output}')
        return None
    return f'{failed.why}, after {failed.seconds} s'


def attack(mutant, reg, binaries):
    """Build it and boot it on each bed; {(test, bed): why, or None where it survives}."""
    commit = variant.commit_of([PLACE / f'{mutant.name}.patch'])
    prove = os.environ.get('PROVE') == '1' or bool(set(mutant.beds) & set(registry.delayed(reg)))
    found = {}
    for test, bed, fails, verifies in mutant.attacks(reg):
        lane = mutant.lane or test.lane
        place = f'mutant/{mutant.name}/{bed}/{test.name}' + '-prove' * verifies
        job = boot.Job(place, kernel_of(commit, reg.beds[bed], lane, prove or verifies), dict(reg.beds[bed], name=bed),
                       [test], binaries, reg.lanes[lane or 'debian']['slower'], registry.settings(reg, lane))
        found['the verifier' if verifies else test.name, bed] = noticed(fails, boot.boot(job)[0])
    return found


def noticed_by(found):
    """The tests, each with the beds on which it noticed."""
    tests = dict.fromkeys(test for (test, _), why in found.items() if why)
    return '; '.join(', '.join([test, *(bed for (name, bed), why in found.items() if name == test and why)])
                     for test in tests) or 'nothing'


def table_rows():
    """{name: row} of the table as it is."""
    old = re.findall(r'^\| .*\n', TABLE.read_text() if TABLE.exists() else '', re.M)
    return {row.split(' | ')[1]: row for row in old[1:]}


def table(fresh):
    """The table with the rows of this run, those of others as they were."""
    rows = table_rows() | fresh
    write_if_changed(TABLE, HEAD + ''.join(rows[path.stem] for path in sorted(PLACE.glob('*.patch')) if path.stem in rows))


def run(_):
    reg, names = registry.load(), (os.environ.get('NAMES') or '').split()
    mutants = [parse(path) for path in sorted(PLACE.glob('*.patch')) if not names or path.stem in names]
    if not mutants or names and len(mutants) != len(set(names)):
        raise Failure('NAMES= are names of patches in mutants/.')
    binaries = selftests.build(series.compose(), registry.binaries(reg))
    rows, survived = {}, []
    for number, mutant in enumerate(mutants, 1):
        start = time.monotonic()
        found = attack(mutant, reg, binaries)
        seconds = time.monotonic() - start
        for (test, bed), why in found.items():
            say(f'{number}/{len(mutants)} {mutant.name}: ' +
                (f'noticed by {test} on {bed}: {why}' if why else f'SURVIVES {test} on {bed}'))
        survived += [] if all(found.values()) else [mutant.name]
        rows[mutant.name] = f'{mutant.row(found)}{seconds:.0f} |\n'
        table(rows)
    say(f'{len(rows) - len(survived)} passed, {len(survived)} failed, 0 skipped')
    return 1 if survived else 0


if __name__ == '__main__':
    main(run)
