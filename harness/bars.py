# SPDX-License-Identifier: GPL-2.0
"""What `make bench` has to reach, each bar beside what it got, by bed."""
import math

PAIR = ('split', 'merge')
NPT = ('npt',)
ALL = ('npt', 'no-tdp-mmu', 'shadow')
# All memslots that a VM can have, but for one or two of what is beside.
MOST = range(32700, 32765)


class Rows:
    """Lines of one bed: changes of kept memory by `contender`, and the list's that was measured in turn with it."""

    def __init__(self, rows, bed):
        mine = [r for r in rows if r['on'] == bed and r['quirk'] and r.get('touch') == 'kept' and r['pages'] == '4k']
        changes = [r for r in mine if r['kind'] == 'change']
        self.rows = [r for r in changes if not r['other']]
        self.with_other = [r for r in changes if r['other']]
        self.beds = [r for r in mine if r['kind'] == 'bed' and not r['other']]
        # Whatever guests do, and whatever the pages and quirks are.
        self.lists = [r for r in rows if r['on'] == bed and r['kind'] == 'change' and r['contender'] == 'list' and r['parked_n']]

    def of(self, contender, **fixed):
        return [r for r in self.rows if r['contender'] == contender and all(r[k] == v for k, v in fixed.items())]

    def ratios(self, contender, field, **fixed):
        """How many times as much as the list, each time that it was measured; any number of times if that took none."""
        for other in self.of(contender, **fixed):
            same = {k: other[k] for k in ('workload', 'entries', 'vcpus')}
            for mine in self.of('list', in_turn_with=contender, **same)[:1]:
                if field in other and field in mine and (other[field] or mine[field]):
                    yield other[field] / mine[field] if mine[field] else math.inf


def both(choose, of):
    """The least or the most of what was found for each of PAIR; None if one was not measured."""
    def got(rows):
        found = [list(of(rows, workload)) for workload in PAIR]
        return choose(sum(found, [])) if all(found) else None
    return got


def least(contender, field, **fixed):
    return both(min, lambda rows, workload: rows.ratios(contender, field, workload=workload, **fixed))


def lost(contender, vcpus):
    return least(contender, 'lost_ns_med', vcpus=vcpus, entries=2)


def time(entries):
    return least('ioctls', 'ns_med', vcpus=2, entries=entries)


def gap(vcpus):
    """The longest gap that a list makes, as a multiple of that which one kick makes."""
    return both(max, lambda rows, workload: [1 / ratio if ratio else math.inf for ratio in rows.ratios(
        'kick', 'longest_ns_med', workload=workload, vcpus=vcpus, entries=2)])


def grace_periods(rows):
    found = [r['parked_grace_periods'] / r['parked_n'] for r in rows.lists]
    return max(found, key=lambda n: abs(n - 1), default=None)


def faults(rows, workload):
    return [r['parked_faults'] / r['parked_n'] for r in rows.lists
            if r['workload'] == workload and r['vcpus'] and r['touch'] == 'kept']


def memory(with_new):
    """The peak during a list of all entries, as a multiple of what the old slots take, or old and new ones."""
    def of(rows, workload):
        slots = [r['slots_bytes'] for r in rows.beds if r['entries'] in MOST and r['pair'] == 'split' and r.get('slots_bytes')]
        peaks = [r for r in rows.of('list', workload=workload) if r['entries'] in MOST and 'parked_peak_bytes' in r]
        for peak in peaks[:1] if slots else []:
            # The bed began with what a split starts from.
            old = slots[0] if workload == 'split' else slots[0] - peak['parked_grown_bytes']
            yield peak['parked_peak_bytes'] / (old + (old + peak['parked_grown_bytes'] if with_new else 0))
    return both(max, of)


def late(rows):
    """How late another thread on the CPU wakes up during the largest list, in instructions."""
    found = [r['late_ns_max'] for r in rows.with_other if r['contender'] == 'list' and r['entries'] in MOST]
    return max(found, default=None)


def growth(rows, workload):
    """Time of an entry of the largest list as a multiple of that of one of 1,024, by the pairs with stopped vCPUs."""
    cost = {r['entries']: r['ns_med'] / r['entries'] for r in rows.of('list', workload=workload, vcpus=2, in_turn_with='stopped')}
    return [cost[n] / cost[1024] for n in cost if n in MOST and 1024 in cost]


def at_least(n):
    return f'at least {n}', lambda got: got >= n


def exactly(n):
    return f'{n}', lambda got: got == n


def at_most(n):
    return f'at most {n:,}', lambda got: got <= n


BARS = [
    ('grace periods of a list, any size', ALL, exactly(1), grace_periods),
    ('page faults on kept memory behind a split or a merge', ALL, exactly(0), both(max, faults)),
    ('split, merge: time of ioctls, as a multiple, 2 entries', ALL, at_least(4), time(2)),
    ('the same, 64 entries', ALL, at_least(30), time(64)),
    ('the same, 1,024 entries', ALL, at_least(300), time(1024)),
    ('guest time lost with vCPUs stopped, as a multiple, 4 vCPUs', ALL, at_least(20), lost('stopped', 4)),
    ('the same, 16 vCPUs', ALL, at_least(50), lost('stopped', 16)),
    ('guest time lost with vCPUs paused, as a multiple, 4 vCPUs', ALL, at_least(20), lost('pause', 4)),
    ('the same, 16 vCPUs', ALL, at_least(50), lost('pause', 16)),
    ('longest gap of a vCPU, as a multiple of that behind one kick, 2 vCPUs', ALL, at_most(1), gap(2)),
    ('the same, 4 vCPUs', ALL, at_most(1), gap(4)),
    ('the same, 16 vCPUs', ALL, at_most(1), gap(16)),
    ('time of an entry of the largest split, as a multiple of that at 1,024, split and merge', NPT, at_most(1.5), both(max, growth)),
    ('peak of extra memory of the largest split, as a multiple of what the old slots take, to 64 pages', NPT, at_most(1), memory(False)),
    ('the same, of what the old and the new slots take', NPT, at_most(1), memory(True)),
    ('another thread on the CPU is late, at most, the largest split, instructions', NPT, at_most(4_000_000), late),
]


def cell(rows, wanted, of):
    got = of(rows)
    if got is None:
        return '**not measured**'
    text = f'{got:,.0f}' if 1000 <= got < math.inf else f'{got:.5g}'
    return text + ('' if wanted[1](got) else ' **missed**')


def table(rows, beds):
    of = {bed: Rows(rows, bed) for bed in beds}
    text = f'| bar | wanted | {" | ".join(beds)} |\n|---|---|{"---|" * len(beds)}\n'
    for what, where, wanted, got in BARS:
        cells = [cell(of[bed], wanted, got) if bed in where else '' for bed in beds]
        text += f'| {what} | {wanted[0]} | {" | ".join(cells)} |\n'
    return text
