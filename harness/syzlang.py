# SPDX-License-Identifier: GPL-2.0
"""The description of the ioctl for syzkaller, as data, so that `make check` can compare it with the header."""
import re

from util import HARNESS, Failure

PLACE = HARNESS / 'syzlang/kvm_memory_region_list.txt'
SIZES = {'int32': 4, 'int64': 8, 'fd': 4, 'vma64': 8, 'ptr64': 8}


def size_of(kind):
    """Bytes of a type.  An array without a fixed length is the end of its struct, and counts as nothing."""
    name, _, options = kind.partition('[')
    if name == 'array':
        inner, _, count = options.removesuffix(']').rpartition(', ')
        return 0 if ':' in count else size_of(inner) * int(count)
    if name in ('flags', 'const', 'len', 'bytesize'):
        name = options.removesuffix(']').rpartition(', ')[2]
    if name not in SIZES:
        raise Failure(f'{PLACE.name}: the size of {kind} is not known.')
    return SIZES[name]


def structs(text):
    """{struct: (size, {field: place})}."""
    found = {}
    for name, body in re.findall(r'^(\w+) \{\n(.*?)^\}', text, re.M | re.S):
        fields, place = {}, 0
        for field, kind in re.findall(r'^\t(\w+)\t+(.*?)(?:\t\(\w+\))?$', body, re.M):
            fields[field] = place
            place += size_of(kind)
        found[name] = (place, fields)
    return found


def constants(text):
    """The names that headers have to define."""
    return sorted(set(re.findall(r'\bKVM_\w+', re.sub(r'^ioctl\$\w+|^#.*', '', text, flags=re.M))))


def check(layout):
    """An error unless it has the structures of the header; the constants that it uses."""
    text = PLACE.read_text()
    if structs(text) != layout:
        raise Failure(f'harness/syzlang/{PLACE.name} says {structs(text)}, the header {layout}.')
    return constants(text)
