# SPDX-License-Identifier: GPL-2.0
"""What the kernels of LANE=kcsan are told while they run: which functions of the base not to report, then to begin.

KCSAN leaves out a report if one of the two functions is in its list; harness/kcsan.toml says of each why it is."""
import tomllib

from util import HARNESS, Failure

FILE = '/sys/kernel/debug/kcsan'
FIELDS = {'function', 'races', 'why'}


def hidden(text):
    """The functions of the list, each of them with a reason."""
    groups = tomllib.loads(text).get('hidden', [])
    if any(set(group) != FIELDS or not group['why'] for group in groups):
        raise Failure(f'harness/kcsan.toml: each has {", ".join(sorted(FIELDS))}.')
    return [group['function'] for group in groups]


def settings():
    """[(file, value)] to write, in this order, before the first test."""
    names = hidden((HARNESS / 'kcsan.toml').read_text())
    return (*((FILE, f'!{name}') for name in names), (FILE, 'on'))
