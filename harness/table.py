# SPDX-License-Identifier: GPL-2.0
"""The tables of `make bench`, of the lines that memory_region_list_perf_test prints."""
import bars

HEAD = '''# A list beside what a VMM would use instead

`make bench` made this page, in one run, on {version}, emulated: QEMU counts instructions and runs CPUs in turn, so that a
time is the work of all CPUs.  Only ratios mean something: how many times as much as the list in the same VM, in turn with
it.  Counts are means of up to two changes while no vCPU runs; faults are those of one vCPU that then reads up to 1,024
pages, evenly spread.

| contender | |
|---|---|
| ioctls | KVM_SET_USER_MEMORY_REGION2: deletions, then creations |
| stopped | the same, all vCPUs stopped by signals |
| pause | the same, all vCPUs kept out of KVM_RUN by ioctls, modelled on the proposal of October 2022 |
| list2022 | one list in two steps, modelled on the proposal of September 2022 |
| none | nothing is changed, for as long as a list takes: what the bed itself costs a guest |
| kick | the same, behind one kick of all vCPUs |
| list | KVM_SET_USER_MEMORY_REGION_LIST |
'''


def key(row):
    """What two contenders have in common that are compared."""
    return row['on'], row['workload'], row['entries'], row['vcpus'], row['touch'], row['quirk'], row['pages'], row['other']


def pairs(rows):
    """[(other, list)] of all that ran in turn."""
    changes = [row for row in rows if row['kind'] == 'change']
    lists = {(key(row), row['in_turn_with']): row for row in changes if row['contender'] == 'list'}
    return [(row, lists[key(row), row['contender']]) for row in changes if (key(row), row['contender']) in lists]


def times(a, b, field):
    """How many times as much."""
    if field not in a or field not in b or a['contender'] in ('none', 'kick') and field == 'ns_med':
        return ''
    return f'{a[field] / b[field]:,.1f}' if b[field] else '-'


def each(row, field):
    """Of one change, while vCPUs are parked: it is exact."""
    return f'{row[field] / row["parked_n"]:g}' if field in row and row['parked_n'] else ''


def line(other, mine):
    quirk = '' if other['quirk'] else ', no quirk'
    how = [other['workload'], '' if other['pages'] == '4k' else other['pages'],
           {'kept': '', 'halt': 'in HLT'}.get(other['touch'], f'touch {other["touch"]} memory'),
           'a thread beside' if other['other'] else '']
    cells = [other['on'] + quirk, ', '.join(filter(None, how)), f'{other["entries"]:,}', str(other['vcpus']), other['contender'],
             times(other, mine, 'ns_med'), times(other, mine, 'lost_ns_med'), times(other, mine, 'longest_ns_med')]
    for field in ('parked_grace_periods', 'parked_zapped', 'parked_faults', 'parked_tlb_flushes', 'parked_kicks',
                  'parked_requests_to_all'):
        cells.append(f'{each(other, field)} / {each(mine, field)}')
    return '| ' + ' | '.join(cells) + ' |\n'


def beds(rows):
    return list(dict.fromkeys(row['on'] for row in rows))


LOCKED = ('split', 'merge', 'bar')


def locked(rows):
    """{(workload, entries): {bed: instructions}}, the most of any list that was measured."""
    found = {}
    for row in rows:
        if row.get('parked_locked_ns') and row['workload'] in LOCKED and row['entries'] >= 1024:
            of = found.setdefault((row['workload'], row['entries']), {})
            of[row['on']] = max(of.get(row['on'], 0), row['parked_locked_ns'])
    return found


def locked_table(rows):
    text = f'| change | entries | {" | ".join(beds(rows))} |\n|---|---|{"---|" * len(beds(rows))}\n'
    for (workload, entries), of in sorted(locked(rows).items()):
        text += f'| {workload} | {entries:,} | ' + ' | '.join(f'{of[b]:,}' if b in of else '' for b in beds(rows)) + ' |\n'
    return text


def missed(text):
    """A line on the bars of a page."""
    return f'{text.count("**missed**")} bars missed, {text.count("**not measured**")} not measured.'


def page(rows, version, old_paths):
    text = HEAD.format(version=version) + '''
## Bars

''' + bars.table(rows, beds(rows)) + ''.join(f'\n![{bed}]({bed}.svg)' for bed in beds(rows)) + '''

## Those who don't use it

What one page fault, exit or ioctl takes, on the base / with the series: instructions, the medians over some boots, with one
CPU on which nothing else runs.  At most 0.5 % more, but where threads hand something over to each other: that measures the
scheduler.

''' + old_paths + '''
## How long mmu_lock is held to publish

Instructions, by locked_ns of the tracepoint, while no vCPU runs.  A split or a merge keeps all pages, of which the ends of
memslots are visited; "bar" moves all slots, of which nothing is mapped, and each is looked up.

''' + locked_table(rows) + '''
## All changes

Times as much as the list ("none" and "kick" change nothing, their time is that of the list); and counts of one change, by the contender / by the list.

| bed | change | entries | vCPUs | contender | time | guest time lost | longest gap | grace periods | pages zapped | faults after | TLB flushes | kicks | requests to all |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
'''
    return text + ''.join(line(*pair) for pair in sorted(pairs(rows), key=lambda pair: (*key(pair[0]), pair[0]['contender'])))
