# SPDX-License-Identifier: GPL-2.0
"""The places at which a call allocates or copies: those in the new kernel files, and those in the test's table.

The test (memory_region_list_fault_test) sees what it reaches, this sees what there is.  Functions of other files are
in the table, too, and are left to the test."""
import re

from util import REPO, Failure

TABLE = REPO / 'tools/testing/selftests/kvm/include/memory_region_list_fault_sites.h'
FILES = ('virt/kvm/memslot_*.c', 'arch/x86/kvm/mmu/memslot_*.c')
# Only for debugging.
NOT = 'memslot_prove.c'
CALL = re.compile(r'\b(?:k[vz]?[mcz]*alloc\w*|(?:__)?v[mcz]*alloc\w*|bitmap_\w*alloc|kmem_cache_\w*alloc\w*|\w*memdup\w*|'
                  r'copy_(?:from|to)_user|fault_in_\w+|xa_store\w*|(?:__)?get_\w*pages?|'
                  r'alloc_pages?\w*)\(')
FUNCTION = re.compile(r'^(?:[a-z][^\n]*[ *])?(\w+)\([^;{}]*\)\n(?:\t__\w+[^\n]*\n)?\{\n(.*?)^\}', re.M | re.S)


def calls(body):
    """The calls that allocate or copy, with their arguments.  One that is repeated word for word is one."""
    found = set()
    for match in CALL.finditer(body):
        depth, end = 1, match.end()
        while depth:
            depth += {'(': 1, ')': -1}.get(body[end], 0)
            end += 1
        found.add(re.sub(r'\s+', ' ', body[match.start():end]))
    return found


def in_table(text):
    """{function: places}."""
    return {name: int(places) for name, places in re.findall(r'^\t\{ "(\w+)", (\d+),', text, re.M)}


def in_source(text):
    """{function: calls that allocate or copy}."""
    found = {name: len(calls(body)) for name, body in FUNCTION.findall(re.sub(r'/\*.*?\*/', '', text, flags=re.S))}
    return {name: number for name, number in found.items() if number}


def check():
    """The table has all of the new files, and with as many places."""
    table = in_table(TABLE.read_text())
    if not table:
        raise Failure(f'{TABLE.name} has no table.')
    found = {}
    for pattern in FILES:
        for path in sorted(REPO.glob(pattern)):
            found |= in_source(path.read_text()) if path.name != NOT else {}
    wrong = [f'{name}() has {number}, the table {table.get(name, 0)}' for name, number in found.items()
             if table.get(name) != number]
    if wrong or not found:
        raise Failure(f'places that allocate or copy: {"; ".join(wrong) or "none found"}: mend {TABLE.name}, and let '
                      'memory_region_list_fault_test reach them.')
