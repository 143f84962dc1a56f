# SPDX-License-Identifier: GPL-2.0
"""What `make bench` has to reach, each bar beside what it got, by bed."""
PAIR = ('split', 'merge')


class Rows:
    """Lines of one bed: changes of kept memory by `contender`, and the list's that was measured in turn with it."""

    def __init__(self, rows, bed):
        mine = [r for r in rows if r['on'] == bed and r['quirk'] and r.get('touch') == 'kept' and r['pages'] == '4k']
        self.rows = [r for r in mine if r['kind'] == 'change']
        self.beds = [r for r in mine if r['kind'] == 'bed']

    def of(self, contender, **fixed):
        return [r for r in self.rows if r['contender'] == contender and all(r[k] == v for k, v in fixed.items())]

    def ratio(self, contender, field, **fixed):
        """How many times as much as the list, for the change that has the least of it; None if it was not measured."""
        found = []
        for other in self.of(contender, **fixed):
            same = {k: other[k] for k in ('workload', 'entries', 'vcpus')}
            mine, = self.of('list', in_turn_with=contender, **same)
            if field in other and mine[field]:
                found.append(other[field] / mine[field])
        return min(found, default=None)


def pair(rows, contender, field, **fixed):
    found = [rows.ratio(contender, field, workload=w, **fixed) for w in PAIR]
    return None if None in found else min(found)


def grace_periods(rows):
    found = [r['parked_grace_periods'] / r['parked_n'] for r in rows.of('list') if r['parked_n']]
    return max(found, key=lambda n: abs(n - 1), default=None)


def faults(rows):
    found = [r['parked_faults'] / r['parked_n'] for w in PAIR for r in rows.of('list', workload=w) if r['parked_n']]
    return max(found, default=None)


def gap(vcpus):
    """The longest gap that a list makes, as a multiple of that which one kick makes."""
    def of(rows):
        found = [row['longest_ns_med'] / kick['longest_ns_med'] for w in PAIR
                 for kick in rows.of('kick', workload=w, vcpus=vcpus, entries=2)
                 for row in rows.of('list', in_turn_with='kick', workload=w, vcpus=vcpus, entries=2)]
        return max(found, default=None)
    return of


def memory(entries):
    """The peak during a list, as a multiple of what the slots take that go."""
    def of(rows):
        slots = {r['slots_bytes'] for r in rows.beds if r['entries'] == entries and r['pair'] == 'split' and r['vcpus'] == 2
                 and r.get('slots_bytes')}
        found = [row for w in PAIR for row in rows.of('list', workload=w, vcpus=2, entries=entries)
                 if 'parked_peak_bytes' in row]
        if not slots or not found:
            return None
        split = min(slots)
        merge = split + max(row['parked_grown_bytes'] for row in found)
        return max(row['parked_peak_bytes'] / (split if row['workload'] == 'split' else merge) for row in found)
    return of


def late(rows):
    """How late another thread on the CPU wakes up during the largest list, in instructions."""
    found = [row['late_ns_max'] for w in PAIR for row in rows.of('list', workload=w) if 'late_ns_max' in row]
    return max(found, default=None)


def growth(rows):
    """Time of an entry of the largest list as a multiple of that of one of 1,024."""
    cost = {r['entries']: r['ns_med'] / r['entries'] for r in rows.of('list', workload='split', vcpus=2)}
    large = [n for n in cost if n > 32000]
    return cost[large[0]] / cost[1024] if large and 1024 in cost else None


def at_least(n):
    return f'at least {n}', lambda got: got >= n


def exactly(n):
    return f'{n}', lambda got: got == n


def at_most(n):
    return f'at most {n}', lambda got: got <= n


def lost(contender, vcpus):
    return lambda rows: pair(rows, contender, 'lost_ns_med', vcpus=vcpus, entries=2)


def time(entries):
    return lambda rows: pair(rows, 'ioctls', 'ns_med', vcpus=2, entries=entries)


BARS = [
    ('grace periods of a list, any size', exactly(1), grace_periods),
    ('page faults on kept memory behind a split or a merge', exactly(0), faults),
    ('split, merge: time of ioctls, as a multiple, 2 entries', at_least(4), time(2)),
    ('the same, 64 entries', at_least(30), time(64)),
    ('the same, 1,024 entries', at_least(300), time(1024)),
    ('guest time lost with vCPUs stopped, as a multiple, 4 vCPUs', at_least(20), lost('stopped', 4)),
    ('the same, 16 vCPUs', at_least(50), lost('stopped', 16)),
    ('guest time lost with vCPUs paused, as a multiple, 4 vCPUs', at_least(20), lost('pause', 4)),
    ('the same, 16 vCPUs', at_least(50), lost('pause', 16)),
    ('longest gap of a vCPU, as a multiple of that behind one kick, 2 vCPUs', at_most(1), gap(2)),
    ('the same, 4 vCPUs', at_most(1), gap(4)),
    ('the same, 16 vCPUs', at_most(1), gap(16)),
    ('time of an entry at 32,764 entries, as a multiple of that at 1,024', at_most(1.5), growth),
    ('peak of extra memory, as a multiple of what the replaced slots take, 1,024 entries', at_most(1), memory(1024)),
    ('another thread on the CPU is late, at most, 32,764 entries, instructions', at_most(4_000_000), late),
]


def cell(rows, wanted, of):
    got = of(rows)
    if got is None:
        return ''
    return f'{got:,.3g}' + ('' if wanted[1](got) else ' **missed**')


def table(rows, beds):
    of = {bed: Rows(rows, bed) for bed in beds}
    text = f'| bar | wanted | {" | ".join(beds)} |\n|---|---|{"---|" * len(beds)}\n'
    for what, wanted, got in BARS:
        text += f'| {what} | {wanted[0]} | ' + ' | '.join(cell(of[bed], wanted, got) for bed in beds) + ' |\n'
    return text
