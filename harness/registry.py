# SPDX-License-Identifier: GPL-2.0
"""harness/tests.toml, upstream.toml and intel.toml as objects, checked: a field that nobody knows is an error."""
import dataclasses
import tomllib

from util import HARNESS, Failure


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    beds: tuple
    timeout: int
    proves: str = ''
    args: tuple = ()
    base: str = 'none'
    soak: int = 0
    fails: str = ''
    skip: dict = dataclasses.field(default_factory=dict)
    left_out: dict = dataclasses.field(default_factory=dict)
    binary: str = ''

    @property
    def program(self):
        return self.binary or self.name


BED = {'text', 'kvm', 'kvm-amd', 'kvm-intel', 'machine', 'model', 'megs', 'slower', 'all', 'warns'}


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


def load(place=HARNESS):
    data, *more = (tomllib.loads((place / name).read_text()) for name in ('tests.toml', 'upstream.toml', 'intel.toml'))
    beds = data['beds'] | more[1]['beds']
    for name, bed in beds.items():
        check_bed(name, bed)
    tests = tuple(test_of(entry, beds) for entry in sum((part['test'] for part in (data, *more)), []))
    if len({test.name for test in tests}) != len(tests):
        raise Failure('harness/tests.toml: a name stands twice.')
    return Registry(beds, data['lanes'], tests, test_of(data['demo'], beds))


def select(registry, names):
    """The named tests, or all."""
    unknown = set(names) - {test.name for test in registry.tests}
    if unknown:
        raise Failure(f'TESTS= names {", ".join(sorted(unknown))}, which harness/tests.toml lacks.')
    return [test for test in registry.tests if not names or test.name in names]


def soaked(test, seconds, slower):
    """The test as `make soak` runs it: for so many seconds, by its own clock, and on the series only."""
    return dataclasses.replace(test, args=(*test.args, '-t', str(max(1, seconds // test.soak))), base='none',
                               timeout=(2 * seconds + 600) // slower)


def binaries(registry):
    return sorted({test.program for test in (*registry.tests, registry.demo)})
