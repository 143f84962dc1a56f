# SPDX-License-Identifier: GPL-2.0
"""harness/tests.toml and the other parts of the registry as objects, checked: a field that nobody knows is an error."""
import dataclasses
import tomllib

import kcsan
from util import HARNESS, Failure


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    beds: tuple
    timeout: int
    proves: str = ''
    args: tuple = ()
    base: str = 'none'
    soak: float = 0
    delays: bool | str = False
    fails: str = ''
    skip: dict = dataclasses.field(default_factory=dict)
    left_out: dict = dataclasses.field(default_factory=dict)
    binary: str = ''
    lane: str = ''

    @property
    def program(self):
        return self.binary or self.name


PARTS = ('tests.toml', 'hazards.toml', 'fuzz.toml', 'upstream.toml', 'intel.toml')
BED = {'text', 'kvm', 'kvm-amd', 'kvm-intel', 'machine', 'model', 'megs', 'slower', 'all', 'warns', 'of'}


@dataclasses.dataclass(frozen=True)
class Registry:
    beds: dict
    lanes: dict
    tests: tuple
    demo: Test


def test_of(entry, beds):
    known = {field.name for field in dataclasses.fields(Test)}
    strange = set(entry) - known
    for field in ('beds', 'skip', 'left_out'):
        strange |= set(entry.get(field, ())) - set(beds)
    if strange:
        raise Failure(f'harness/tests.toml, {entry.get("name")}: unknown {", ".join(sorted(strange))}.')
    return Test(**{**entry, 'beds': tuple(entry['beds']), 'args': tuple(entry.get('args', ()))})


def check_bed(name, bed):
    strange = set(bed) - BED | set(bed.get('warns', {})) - {'boot', 'test'}
    if bed.get('machine', 'qemu') not in ('qemu', 'bochs'):
        strange.add(f'machine {bed["machine"]}')
    if strange:
        raise Failure(f'harness/tests.toml, bed {name}: unknown {", ".join(sorted(strange))}.')


def delayed_bed(bed, beds):
    """The bed that it is of, with parameters of kvm in addition."""
    other = beds[bed['of']]
    more = [f'memslot_delay_{word}' for word in bed['kvm'].split()]
    return other | {'of': bed['of'], 'text': other['text'] + ', delays', 'kvm': ' '.join([other['kvm'], *more])}


def with_delays(test, beds):
    """A test that says so runs on its beds with delays, too, and skips and leaves out there what it does on them."""
    kind = 'delay' if test.delays is True else test.delays
    more = {name: bed['of'] for name, bed in beds.items()
            if bed.get('of') in test.beds and name == f'{bed["of"]}-{kind}'}
    if test.delays and not more:
        raise Failure(f'harness/*.toml: {test.name} has delays, but none of its beds is there with them.')
    return dataclasses.replace(test, beds=(*test.beds, *more), **{
        field: old | {name: old[of] for name, of in more.items() if of in old}
        for field, old in (('skip', test.skip), ('left_out', test.left_out))})


def delayed(registry):
    """The beds that need a kernel with the debug option of the series."""
    return [name for name, bed in registry.beds.items() if 'of' in bed]


def load(place=HARNESS):
    data, *more = (tomllib.loads((place / name).read_text()) for name in PARTS)
    beds = data['beds'] | more[-1]['beds']
    beds = {name: delayed_bed(bed, beds) if 'of' in bed else bed for name, bed in beds.items()}
    for name, bed in beds.items():
        check_bed(name, bed)
    tests = tuple(with_delays(test_of(entry, beds), beds)
                  for entry in sum((part['test'] for part in (data, *more)), []))
    if len({test.name for test in tests}) != len(tests):
        raise Failure('harness/tests.toml: a name stands twice.')
    return Registry(beds, data['lanes'], tests, test_of(data['demo'], beds))


def settings(registry, lane):
    """(file, value) of what is written before the first test."""
    own = kcsan.settings() if lane == 'kcsan' else ()
    return (*own, *registry.lanes.get(lane, {}).get('set', {}).items())


def select(registry, names):
    """The named tests, or all."""
    unknown = set(names) - {test.name for test in registry.tests}
    if unknown:
        raise Failure(f'TESTS= names {", ".join(sorted(unknown))}, which harness/tests.toml lacks.')
    return [test for test in registry.tests if not names or test.name in names]


def of_lane(tests, lane, only, named):
    """Those that run in this lane, or only there."""
    found = [test for test in tests if test.lane == lane or not test.lane and not only]
    lost = {test.name: test.lane for test in tests if test.name in named and test not in found}
    if lost:
        raise Failure(', '.join(f'{name} runs with LANE={where or "debian"}' for name, where in lost.items()) + '.')
    return found


def soaked(test, seconds, slower):
    """The test as `make soak` runs it: for so many seconds, by its own clock, and on the series only."""
    part = max(1, int(seconds / test.soak))
    return dataclasses.replace(test, args=(*test.args, '-t', str(part)), base='none',
                               timeout=(2 * max(seconds, part) + 600) // slower)


def binaries(registry):
    return sorted({test.program for test in (*registry.tests, registry.demo)})
