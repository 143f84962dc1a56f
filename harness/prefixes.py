# SPDX-License-Identifier: GPL-2.0
"""Build each prefix of the series, base first: KVM as modules of both vendors, warnings are errors,
W=1 and sparse.  A warning is new if the base does not have it."""
import collections
import os
import re

import base
import kernel
import series
from util import BUILD, HARNESS, JOBS, Failure, git, lock, logged, main, say

TREE, OUT = BUILD / 'prefix', BUILD / 'k-prefix'
TARGETS = ('arch/x86/kvm/',)
SAVED = BUILD / 'prefix-base-warnings'
WARNING = re.compile(r'^(?:\S*?/)?((?:arch|include|virt|drivers|kernel|mm|lib)/\S+?|<[^>]+>):(?:\d+:)*(?: |\t)*'
                     r'((?:warning|error): .*)$', re.M)


def warnings(text):
    """How often each warning stands in a build log, whatever its line."""
    text = text.replace('../', '')
    return collections.Counter(f'{match.group(1)}: {match.group(2)}' for match in WARNING.finditer(text))


def build(commit, title):
    """Build one prefix; the warnings of what was compiled anew."""
    series.checkout(commit, TREE)
    # From the patch on that has the option; without it the series is built by everything else.
    logged(f'Configuring: {title}', ['bash', '-c', '"$0/scripts/config" --file "$1/.config" -e KVM_PROVE_MEMSLOT_LIST && '
                                     'make -s -C "$0" O="$1" olddefconfig', TREE, OUT],
           BUILD / 'log/prefix-config.log')
    log = logged(f'Building: {title}',
                 ['make', '-C', TREE, f'O={OUT}', f'-j{JOBS}', 'W=1', 'C=1', *TARGETS],
                 BUILD / f'log/prefix-{commit[:12]}.log', env=dict(os.environ, LC_ALL='C'))
    return warnings(log)


def signature():
    """What the base's warnings depend on: they are kept, as are the objects."""
    return base.version() + ''.join((HARNESS / f'config/{name}.config').read_text()
                                    for name in kernel.FRAGMENTS['prefix'])


def base_warnings():
    """Build the base, all of it: an incremental build would be silent about what it keeps."""
    saved = SAVED.read_text().split('\0') if SAVED.exists() else []
    if len(saved) == 2 and saved[0] == signature():
        return collections.Counter(dict((line.split('\t')[1], int(line.split('\t')[0]))
                                        for line in saved[1].splitlines()))
    series.checkout('base', TREE)
    kernel.configure(TREE, 'prefix', OUT)
    for name in OUT.glob('arch/x86/kvm/**/*.o'):
        name.unlink()
    for name in OUT.glob('virt/kvm/**/*.o'):
        name.unlink()
    found = build('base', 'base')
    SAVED.write_text(signature() + '\0' + ''.join(f'{count}\t{line}\n' for line, count in found.items()))
    return found


def check():
    """Build all; list the warnings that the base does not have."""
    series.compose()
    commits = git(base.LINUX, 'rev-list', '--reverse', 'base..composed').split()
    with lock('prefix'):
        known, fresh = base_warnings(), []
        build('base', 'base, to start from')
        for number, commit in enumerate(commits, 1):
            subject = git(base.LINUX, 'show', '-s', '--format=%s', commit).strip()
            found = build(commit, f'{number}/{len(commits)} {subject}')
            fresh += [f'{subject}: {line}' for line in found if found[line] > known[line]]
            known |= found
    for line in fresh:
        say(f'new: {line}')
    if fresh:
        raise Failure(f'{len(fresh)} new warnings of W=1 or sparse.')
    say(f'{len(commits)} prefixes build with W=1 C=1 without a new warning '
        f'({sum(known.values())} of the base, unchanged).')
    return 0


if __name__ == '__main__':
    main(lambda _: check())
