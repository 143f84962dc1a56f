# SPDX-License-Identifier: GPL-2.0
"""Prove that patches/ + new files, the composed commits and the mail say the same."""
import functools
import shutil

import base
import mail
import patchfile
import series
from util import BUILD, REPO, Failure, git, main, relative, say


@functools.cache
def repeat():
    """Composing twice gives the same commit."""
    first, second = series.compose_commits(), series.compose_commits()
    if first != second:
        raise Failure(f'two compositions differ: {first[:12]} and {second[:12]}.')
    return first


def recorded_base():
    """Whether this is the base in BASE: on another 6.12.y the hunks' line numbers may differ."""
    path = REPO / 'BASE'
    tree = git(base.LINUX, 'rev-parse', 'base^{tree}').strip()
    return path.exists() and f'tree {tree}' in path.read_text()


def split():
    """Splitting the composed commits gives back the repository, byte for byte."""
    commit = repeat()
    want = {name: (path.read_bytes(), bool(path.stat().st_mode & 0o100))
            for name, path in series.overlay(REPO).items()}
    want |= {f'patches/{path.name}': (path.read_bytes(), False) for path in (REPO / 'patches').glob('*.patch')}
    got = series.split_files(f'base..{commit}')
    if not recorded_base():
        say('This is not the base in BASE: line numbers of hunks are not compared.')
        want, got = ({name: (patchfile.without_line_numbers(data.decode()) if name.endswith('.patch')
                             else data, mode) for name, (data, mode) in side.items()} for side in (want, got))
    differ = sorted(name for name in {*want, *got} if want.get(name) != got.get(name))
    if differ:
        raise Failure(f'{", ".join(differ)}: not as splitting the series gives it; '
                      'run "python3 harness/series.py split base..composed" and look at the difference.')
    say(f'{len(want)} files come back byte for byte.')


def apply_mail():
    """`git am` of the mail on a clean base gives the composed tree."""
    commit, out, tree = repeat(), BUILD / 'check-mail', BUILD / 'am'
    for path in (out, tree):
        shutil.rmtree(path, ignore_errors=True)
    mail.write(commit, out)
    changed = git(base.LINUX, 'diff', '--name-only', 'base', commit).split()
    git(BUILD, 'clone', '-q', '--shared', '--no-checkout', base.LINUX, tree)
    git(tree, 'sparse-checkout', 'set', '--no-cone', *[f'/{name}' for name in changed])
    git(tree, 'checkout', '-q', '--detach', 'base')
    letters = sorted(path for path in out.glob('*.patch') if 'cover-letter' not in path.name)
    git(tree, '-c', 'user.name=check', '-c', 'user.email=check@localhost', 'am', '-q', '--keep-cr', *letters)
    want, got = (git(where, 'rev-parse', f'{what}^{{tree}}').strip()
                 for where, what in ((base.LINUX, commit), (tree, 'HEAD')))
    shutil.rmtree(tree)
    if want != got:
        raise Failure(f'git am of the mail gives tree {got[:12]}, composing gives {want[:12]}.')
    say(f'git am of {len(letters)} mails in {relative(out)} gives the same tree {want[:12]}.')


def run(_):
    split()
    apply_mail()
    return 0


if __name__ == '__main__':
    main(run)
