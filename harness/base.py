# SPDX-License-Identifier: GPL-2.0
"""The base: an untouched Linux 6.12.y, unpacked once into build/linux as git tag `base`."""
import os
import pathlib
import re
import shutil

from util import BUILD, REPO, Failure, git, logged, lock, main, output, progress, relative, say

LINUX = BUILD / 'linux'
STABLE = '6.12'
IDENT = {f'GIT_{who}_{what}': value for who in ('AUTHOR', 'COMMITTER')
         for what, value in (('NAME', 'base'), ('EMAIL', 'base@localhost'), ('DATE', '@0 +0000'))}


def version_of(text):
    """6.12.117 from the text of a kernel's top Makefile."""
    part = dict(re.findall(r'^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$', text, re.M))
    return '.'.join(part.get(name, '?') for name in ('VERSION', 'PATCHLEVEL', 'SUBLEVEL'))


def source():
    """The tree or tarball to take the base from."""
    named = os.environ.get('LINUX')
    if named:
        path = pathlib.Path(named).expanduser().resolve()
        if not path.exists():
            raise Failure(f'LINUX={named} does not exist; name a kernel tree or tarball.')
        return path
    path = pathlib.Path(f'/usr/src/linux-source-{STABLE}.tar.xz')
    if not path.exists():
        raise Failure(f'Install the package linux-source-{STABLE}, or name a {STABLE}.y '
                      'tree or tarball with LINUX=.')
    return path


def unpack(path, out):
    """Copy a tree (tracked files only if it is a git work tree) or unpack a tarball into out."""
    out.mkdir(parents=True)
    if path.is_dir():
        pipe = ('git -C "$0" archive HEAD' if (path / '.git').exists() else
                'tar -C "$0" --exclude=./.git --exclude="*.o" -cf - .') + ' | tar -C "$1" -xf -'
        logged(f'Copying {path.name}', ['bash', '-c', 'set -o pipefail; ' + pipe, path, out],
               BUILD / 'log/unpack.log')
    else:
        logged(f'Unpacking {path.name}', ['tar', '-C', out, '--strip-components=1', '-xf', path],
               BUILD / 'log/unpack.log')
    makefile = out / 'Makefile'
    version = version_of(makefile.read_text()) if makefile.exists() else 'no kernel'
    if not version.startswith(STABLE + '.'):
        raise Failure(f'{path.name} is {version}, but the series is for {STABLE}.y; '
                      f'name such a source with LINUX=.')


def commit(out):
    """One commit with everything, tagged base.  Uncompressed: it is made once and read often."""
    with progress('Recording the base in git'):
        git(out, 'init', '-q', '-b', 'master')
        for key, value in (('core.compression', '0'), ('gc.auto', '0'), ('core.autocrlf', 'false')):
            git(out, 'config', key, value)
        git(out, 'add', '-A', '-f')
        git(out, 'commit', '-q', '-m', 'base', env=IDENT)
        git(out, 'tag', 'base')
        git(out, 'branch', 'series')


def record():
    """Write BASE, the base that was tested last.  Any 6.12.y that the patches apply to is accepted."""
    version = version_of(git(LINUX, 'show', 'base:Makefile'))
    tree = git(LINUX, 'rev-parse', 'base^{tree}').strip()
    package = output(['dpkg-query', '-W', '-f', '${Version}', f'linux-source-{STABLE}'])
    text = (f'# The base tested last; any {STABLE}.y is accepted.\n'
            f'package linux-source-{STABLE}\nversion {package}\nlinux {version}\ntree {tree}\n')
    (REPO / 'BASE').write_text(text)
    say(f'BASE: linux {version}, tree {tree}')


def version():
    return version_of(git(LINUX, 'show', 'base:Makefile'))


def ready():
    return (LINUX / '.git').exists() and bool(git(LINUX, 'tag', '-l', 'base').strip())


def ensure():
    """Make build/linux unless it is there."""
    with lock('base'):
        if not ready():
            if LINUX.exists():
                raise Failure(f'{relative(LINUX)} has no tag "base": it was left half made; delete it.')
            partial = BUILD / 'linux.partial'
            shutil.rmtree(partial, ignore_errors=True)
            unpack(source(), partial)
            commit(partial)
            partial.rename(LINUX)
    compare()


def compare():
    """Say so when this base is not the one in BASE."""
    path = REPO / 'BASE'
    want = re.search(r'^tree (\w+)$', path.read_text(), re.M) if path.exists() else None
    tree = git(LINUX, 'rev-parse', 'base^{tree}').strip()
    same = want and want.group(1) == tree
    say(f'Base: Linux {version()}' + ('' if same else ', not the one in BASE that was tested last'))


def run(args):
    if args == ['record']:
        record()
    else:
        ensure()
    return 0


if __name__ == '__main__':
    main(run)
