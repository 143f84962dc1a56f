# SPDX-License-Identifier: GPL-2.0
"""Build the KVM selftests that the registry names, statically, from the composed tree."""
import os
import re

from util import BUILD, JOBS, Failure, lock, logged, main

OUT, HEADERS = BUILD / 'selftests', BUILD / 'headers'


def headers(tree, suffix=''):
    """Export the tree's own UAPI headers, as userspace sees them."""
    out = HEADERS.with_name(HEADERS.name + suffix)
    logged('Exporting the kernel headers', ['make', '-C', tree, f'-j{JOBS}', 'ARCH=x86', f'O={out}', 'headers'],
           BUILD / f'log/{out.name}.log')
    return out / 'usr/include'


def listed(tree):
    """The test programs that the tree's Makefile knows."""
    text = (tree / 'tools/testing/selftests/kvm/Makefile').read_text()
    return set(re.findall(r'^TEST_GEN_PROGS(?:_EXTENDED)?_x86_64 \+?= (\S+)$', text, re.M))


def build(tree, names, suffix=''):
    """Build the programs, in a directory for this tree; return {name: file}.  A name that the tree lacks is an error."""
    unknown = sorted(set(names) - listed(tree))
    if unknown:
        raise Failure(f'the composed selftests Makefile does not list {", ".join(unknown)}: '
                      'add them to it or take them out of harness/tests.toml.')
    out = OUT.with_name(OUT.name + suffix)
    with lock(out.name):
        include = headers(tree, suffix)
        env = {k: v for k, v in os.environ.items() if k not in ('CFLAGS', 'LDFLAGS')}
        out.mkdir(exist_ok=True)
        targets = [str(out / name) for name in names]
        logged('Building the selftests',
               ['make', '-C', tree / 'tools/testing/selftests/kvm', f'-j{JOBS}', 'ARCH=x86',
                f'OUTPUT={out}', f'KHDR_INCLUDES=-isystem {include}', 'USERLDFLAGS=-static',
                'LDFLAGS=-static -pthread -no-pie', *targets], BUILD / f'log/{out.name}.log', env=env)
    return {name: out / name for name in names}


def run(_):
    import registry  # pylint: disable=import-outside-toplevel
    import series  # pylint: disable=import-outside-toplevel
    build(series.TREE, registry.binaries(registry.load()))
    return 0


if __name__ == '__main__':
    main(run)
