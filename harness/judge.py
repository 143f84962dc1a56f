# SPDX-License-Identifier: GPL-2.0
"""From what a boot left behind to a verdict per test.

A test passes only if the result channel, a serial port that the kernel does not know as a
console, says so in a line with the nonce of this boot, the plan was carried out to its end
marker, the machine ended by itself and the console shows no kernel complaint while the test ran."""
import dataclasses
import re

SPLATS = re.compile('|'.join((
    r'WARNING: (?!CPU features|x86/|.*(retbleed|spectre))', r'BUG: ', r'\bBUG at ', r'Oops', r'KASAN',
    r'UBSAN', r'KCSAN', r'Kernel panic', r'general protection fault', r'unable to handle',
    r'possible circular locking', r'possible recursive locking', r'inconsistent lock state',
    r'suspicious RCU usage', r'bad unlock balance', r'held lock freed', r'lock held when returning',
    r'rcu.*(detected stalls|self-detected stall|expedited stalls)', r'soft lockup', r'hard LOCKUP',
    r'blocked for more than', r'[Cc]orrupted stack', r'stack end corrupted', r'Bad page state',
    r'Objects remaining', r'sleeping function called', r'refcount_t: ', r'list_(add|del) corruption',
    r'scheduling while atomic', r'Call Trace:', r'unreferenced object', r'double fault',
    r'KVM_BUG_ON', r'Poison overwritten', r'Redzone overwritten')))
# printk writes one bracketed time first; what a test prints has none.
PRINTK = re.compile(r'^\[ *\d+\.\d+\](\[ *[CT]\d+\])? ')
# What vmalloc() prints ahead of a trace when a test asks for more than all of memory: no complaint, but ENOMEM.
TOO_MUCH = re.compile(r'memory_region_l: vmalloc error: size \d+, exceeds total pages, mode:.*\n'
                      r'CPU: \d+ .* Comm: memory_region_l .*\n(Tainted: .*\n)?Hardware name: .*\n')
WARN = re.compile(r'WARNING: CPU: \d+ PID: \d+ at (\S+:\d+) \w+(\.\w+)*\+0x')
# sysrq-w after a timeout prints the blocked tasks with their traces: not a complaint.
BLOCKED = re.compile(r'sysrq: Show Blocked State')


@dataclasses.dataclass
class Verdict:
    name: str
    word: str           # PASS, FAIL or SKIP
    why: str = ''
    seconds: int = 0
    output: str = ''


@dataclasses.dataclass
class Boot:
    """What is known of one run of a VM."""
    nonce: str
    plan: list          # names of all planned results in order
    channel: str
    console: str
    ended: str          # 'powered off', 'timeout', or how else
    may_skip: dict = dataclasses.field(default_factory=dict)
    may_leave_out: dict = dataclasses.field(default_factory=dict)   # {name: what it may say it leaves out}
    warns: dict = dataclasses.field(default_factory=dict)   # {'boot' or 'test': FILE:LINE of the bed's own WARNs}


def results(boot):
    """[(word, seconds, name, why)] that the channel carries, and whether it is whole."""
    lines = [line.removeprefix(boot.nonce + ' ') for line in boot.channel.splitlines()
             if line.startswith(boot.nonce + ' ')]
    found = [re.fullmatch(r'(pass|fail|skip) (\d+) (\S+) ?(.*)', line) for line in lines]
    found = [match.groups() for match in found if match]
    count = len(boot.plan)
    whole = (f'plan {count}' in lines[:1] and lines[-1:] == [f'end {count}']
             and [entry[2] for entry in found] == boot.plan)
    return found, whole


def sections(console):
    """{test: its part of the console}, and the parts outside of any test under ''."""
    parts, current = {'': []}, ''
    for line in console.replace('\r', '').split('\n'):
        begin, end = re.search(r'# begin (\S+)$', line), re.search(r'# end (\S+): ', line)
        current = begin.group(1) if begin else current
        parts.setdefault(current, []).append(line)
        current = '' if end else current
    return parts


def asked_for_too_much(before):
    """Whether the lines ahead of a trace, all of them the kernel's, say just that."""
    return any(all(PRINTK.match(line) for line in lines) and
               TOO_MUCH.fullmatch(''.join(PRINTK.sub('', line) + '\n' for line in lines))
               for lines in (before[-4:], before[-3:]))


def is_of_the_bed(line, places):
    """Whether this is the first line of a WARN at just such a place."""
    place = WARN.match(PRINTK.sub('', line)) if PRINTK.match(line) else None
    return bool(place) and place.group(1) in places


def splat(lines, places=()):
    """The first complaint of the kernel in these lines, or ''.  A WARN at one of the places has one trace."""
    blocked, of_the_bed = False, 0
    for number, line in enumerate(lines):
        blocked = blocked or bool(BLOCKED.search(line))
        match = SPLATS.search(line)
        if is_of_the_bed(line, places):
            of_the_bed += 1
            continue
        if match and match.group() == 'Call Trace:' and of_the_bed:
            of_the_bed -= 1
            continue
        if not match or match.group() == 'Call Trace:' and (blocked or asked_for_too_much(lines[:number])):
            continue
        return PRINTK.sub('', line).strip()[:300]
    return ''


def said(lines):
    """What the test itself printed."""
    return '\n'.join(line for line in lines if not PRINTK.match(line)
                     and not re.match(r'# (begin|end) ', line)).strip('\n')


def left_out(lines, allowed):
    """The first part that a test says it leaves out though the registry does not allow it, or ''."""
    said_so = [line.removeprefix('Left out: ') for line in lines if line.startswith('Left out: ')]
    return next((text for text in said_so if not any(text.startswith(part) for part in allowed)), '')


def one(name, got, boot, lines):
    word, seconds, _, why = got or ('fail', 0, name, f'no result; the VM ended: {boot.ended}')
    complaint = splat(lines, boot.warns.get('test', ()))
    if complaint:
        word, why = 'fail', f'kernel: {complaint}'
    elif word == 'skip' and name not in boot.may_skip:
        word, why = 'fail', 'skipped, which the registry does not allow'
    elif word == 'pass' and left_out(lines, boot.may_leave_out.get(name, ())):
        word, why = 'fail', f'left out: {left_out(lines, boot.may_leave_out.get(name, ()))}'
    return Verdict(name, word.upper(), why, int(seconds), said(lines))


def judge(boot):
    """The verdicts of a boot; the last one, `boot`, is about all that is in no test."""
    found, whole = results(boot)
    parts = sections(boot.console)
    by_name = {}
    for entry in found:
        by_name[entry[2]] = entry if entry[2] not in by_name else ('fail', 0, entry[2], 'reported twice')
    verdicts = [one(name, by_name.get(name), boot, parts.get(name, [])) for name in boot.plan]
    why = splat(parts[''], boot.warns.get('boot', ()))
    if not why and boot.ended != 'powered off':
        why = f'the VM ended: {boot.ended}'
    if not why and not whole:
        why = 'the result channel does not carry the plan from its first line to its end marker'
    return verdicts + [Verdict('boot', 'FAIL' if why else 'PASS', why)]
