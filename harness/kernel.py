# SPDX-License-Identifier: GPL-2.0
"""Kernels with a configuration of their own: fragments merged on allnoconfig, each line verified."""
import os
import pathlib
import re

import base
import series
from debian import KVM_DIRS, tree_files
from util import BUILD, HARNESS, JOBS, REPO, Failure, git, lock, logged, main, output, relative, say, sync

# What the option of prove.config needs; the base has it not.
PROVER = 'virt/kvm/memslot_prove.c'
FRAGMENTS = {'full': ('full',), 'debug': ('full', 'debug'), 'gcov': ('full', 'gcov'), 'kcsan': ('full', 'kcsan'),
             'fault': ('full', 'fault'), 'prefix': ('full', 'prefix')}
# Lanes whose kernels verify themselves, PROVE=1 or not.
PROVED = ('debug', 'gcov')
TREES = ('rbtree.o', 'interval_tree.o')
# Before functions are inlined, so that each branch counts once, not once a caller.
GCOV = '-fprofile-arcs -ftest-coverage -fprofile-update=atomic -fno-early-inlining -fno-tree-loop-im'


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
    names = FRAGMENTS[lane] + (('prove',) if prove or lane in PROVED and (tree / PROVER).exists() else ())
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


def objects(names):
    """The objects of these source files, as the Makefile of KVM names them."""
    return [str(pathlib.Path(os.path.relpath(name, KVM_DIRS[0])).with_suffix('.o')) for name in sorted(names)]


def gcov_switches(_):
    """Count in the files of the series, and in a user of their headers that is none of them."""
    own = [name for name in series.overlay(REPO) if name.startswith(KVM_DIRS) and name.endswith('.c')]
    return [f'CFLAGS_GCOV={GCOV}', *(f'GCOV_PROFILE_{name}=y' for name in objects([*own, 'virt/kvm/kvm_main.c']))]


def kcsan_switches(tree):
    """Look at KVM and its trees, and know the barriers that are implied by locks and RCU.  Objects go by their names,
    and regs.c is one of the boot code, too, which has no KCSAN."""
    below = {place: [str(path.relative_to(tree)) for path in (tree / place).rglob('*.c')]
             for place in (*KVM_DIRS, 'kernel/locking', 'kernel/rcu')}
    return ['KCSAN_SANITIZE=n', *(f'KCSAN_SANITIZE_{name}=y' for name in
                                  [*objects(sum((below[place] for place in KVM_DIRS), [])), *TREES] if name != 'regs.o'),
            *(f'KCSAN_INSTRUMENT_BARRIERS_{pathlib.Path(name).stem}.o=y'
              for place in ('kernel/locking', 'kernel/rcu') for name in sorted(below[place]))]


# Variables for make that a configuration can't hold.
SWITCHES = {'gcov': gcov_switches, 'kcsan': kcsan_switches}


def build(tree, lane, out, prove=False):
    configure(tree, lane, out, prove)
    logged(f'Building the {lane} kernel in {relative(out)}',
           ['make', '-C', tree, f'O={out}', f'-j{JOBS}', 'LOCALVERSION=-' + lane,
            *(SWITCHES[lane](tree) if lane in SWITCHES else ()), 'bzImage'],
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
