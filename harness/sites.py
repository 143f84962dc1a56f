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
                  r'kv?realloc\w*|kstrn?dup\w*|(?:__)?copy_(?:from|to)_user\w*|(?:__)?(?:get|put|clear)_user|fault_in_\w+|'
                  r'xa_(?:store|insert|alloc)\w*|(?:__)?get_\w*pages?|alloc_pages?\w*)\(')
FUNCTION = re.compile(r'^(?:[a-z][^\n]*[ *])?(\w+)\([^;{}]*\)\n(?:\t__\w+[^\n]*\n)?\{\n(.*?)^\}', re.M | re.S)


def in_table(text):
    """{function: calls}, those that the test reaches and those that it can't."""
    return {name: int(reached) + int(others)
            for name, reached, others in re.findall(r'^\t\{ "(\w+)", (\d+), (\d+),', text, re.M)}


def in_source(text):
    """{function: number of calls that allocate or copy}."""
    return {name: len(CALL.findall(body)) for name, body in FUNCTION.findall(re.sub(r'/\*.*?\*/', '', text, flags=re.S))}


def check():
    """The table has all of the new files, with as many places, and none that is not there."""
    table = in_table(TABLE.read_text())
    if not table:
        raise Failure(f'{TABLE.name} has no table.')
    found = {}
    for pattern in FILES:
        for path in sorted(REPO.glob(pattern)):
            found |= in_source(path.read_text()) if path.name != NOT else {}
    wrong = [f'{name}() has {number}, the table {table.get(name, 0)}' for name, number in found.items()
             if table.get(name, 0) != number]
    if wrong or not any(found.values()):
        raise Failure(f'places that allocate or copy: {"; ".join(wrong) or "none found"}: mend {TABLE.name}, and let '
                      'memory_region_list_fault_test reach them.')
