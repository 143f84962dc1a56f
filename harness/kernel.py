# SPDX-License-Identifier: GPL-2.0
"""Kernels with a configuration of their own: fragments merged on allnoconfig, each line verified."""
import re

import base
import series
from debian import KVM_DIRS, tree_files
from util import BUILD, HARNESS, JOBS, Failure, git, lock, logged, main, output, relative, say, sync

# What the option of prove.config needs; the base has it not.
PROVER = 'virt/kvm/memslot_prove.c'
FRAGMENTS = {'full': ('full',), 'debug': ('full', 'debug'), 'fault': ('full', 'fault'),
             'prefix': ('full', 'prefix')}


def lost(text, config):
    """The lines of a fragment that a .config does not have."""
    have = set(config.splitlines())
    for line in text.splitlines():
        match = re.fullmatch(r'(CONFIG_\w+)=(.*)', line.strip())
        if match and match.group(2) == 'n' and not re.search(rf'^{match.group(1)}=', config, re.M):
            continue
        if match and line.strip() not in have:
            yield line.strip()


def configure(tree, lane, out, prove=False):
    """Write out/.config, unless it is there and as wanted."""
    names = FRAGMENTS[lane] + (('prove',) if prove or lane == 'debug' and (tree / PROVER).exists() else ())
    parts = [HARNESS / f'config/{name}.config' for name in names]
    wanted = f'# {tree}\n' + ''.join(part.read_text() for part in parts)
    stamp = out / '.fragments'
    out.mkdir(parents=True, exist_ok=True)
    if not (stamp.exists() and stamp.read_text() == wanted and (out / '.config').exists()):
        logged(f'Configuring {relative(out)}',
               ['bash', '-c', 'make -s -C "$0" O="$1" allnoconfig && cd "$1" && '
                '"$0/scripts/kconfig/merge_config.sh" -m -O "$1" "$1/.config" "${@:2}" && '
                'make -s -C "$0" O="$1" olddefconfig', tree, out, *parts],
               BUILD / f'log/{out.name}-config.log')
        stamp.write_text(wanted)
    gone = [line for part in parts for line in lost(merged(parts, part), (out / '.config').read_text())]
    if gone:
        stamp.unlink()
        raise Failure(f'{relative(out)}/.config lost {", ".join(gone)}: fix the fragment or its dependencies.')


def merged(parts, part):
    """The lines of a fragment that no later fragment sets otherwise."""
    later = ''.join(other.read_text() for other in parts[parts.index(part) + 1:])
    return '\n'.join(line for line in part.read_text().splitlines()
                     if not re.search(rf'^{re.escape(line.split("=")[0])}=', later, re.M))


def worktree(commit):
    """A work tree that is at this commit: the series' own, or one of the base."""
    if commit == 'composed':
        return series.TREE
    tree = BUILD / 'base-tree'
    series.checkout(commit, tree)
    return tree


def build(tree, lane, out, prove=False):
    configure(tree, lane, out, prove)
    logged(f'Building the {lane} kernel in {relative(out)}',
           ['make', '-C', tree, f'O={out}', f'-j{JOBS}', 'LOCALVERSION=-' + lane, 'bzImage'],
           BUILD / f'log/{out.name}.log')
    return out / 'arch/x86/boot/bzImage', {}


def kernel(lane, commit, out, prove=False):
    """Build the kernel of a lane in `out`; its image, and no modules."""
    tree = worktree(commit)
    with lock(out.name):
        return build(tree, lane, out, prove)


def variant(lane, commit, out):
    """As kernel(), of a commit that differs from the series below KVM_DIRS only.  `out` is a copy of the lane's
    directory with KVM's sources in it: make finds them ahead of those of the tree, and builds nothing else."""
    other = [name for name in git(base.LINUX, 'diff', '--name-only', 'composed', commit).split()
             if not name.startswith(KVM_DIRS)]
    if other:
        raise Failure(f'{", ".join(other)}: only files below {" and ".join(KVM_DIRS)} can be built apart.')
    kernel(lane, 'composed', BUILD / f'k-{lane}')
    with lock(out.name):
        if not out.exists():
            partial = out.with_name(out.name + '.partial')
            output(['rm', '-rf', partial])
            output(['cp', '-a', BUILD / f'k-{lane}', partial])
            partial.rename(out)
        sync(tree_files(commit, KVM_DIRS), out)
        return build(series.TREE, lane, out)


def run(args):
    if len(args) != 1 or args[0] not in FRAGMENTS:
        raise Failure(f'usage: kernel.py {"|".join(FRAGMENTS)}')
    series.compose()
    image, _ = kernel(args[0], 'composed', BUILD / f'k-{args[0]}')
    say(f'{relative(image)}, Linux {base.version()}')
    return 0


if __name__ == '__main__':
    main(run)
