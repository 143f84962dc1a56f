# SPDX-License-Identifier: GPL-2.0
"""Documentation/virt/kvm builds with Sphinx without a warning that the base does not have."""
import collections
import os
import re
import shutil

import base
import kernel
import series
from util import BUILD, JOBS, Failure, git, logged, say


def warnings(text):
    """How often each warning stands in the log, whatever its line and the place of the tree."""
    found = re.findall(r'^(?:\S*?/)?((?:Documentation|virt|include|arch)/\S+?):(?:\d+:)* *'
                       r'((?:WARNING|ERROR|SEVERE|CRITICAL|warning|error):? .*)$', text, re.M)
    return collections.Counter(f'{path}: {words}' for path, words in found)


def build(tree, name):
    """Build from nothing: Sphinx is silent about what it keeps."""
    out = BUILD / name
    shutil.rmtree(out, ignore_errors=True)
    env = dict(os.environ, PATH='/usr/bin:' + os.environ['PATH'], LC_ALL='C.UTF-8')
    return warnings(logged(f'Sphinx: {name}', ['make', '-C', tree, f'O={out}', f'-j{JOBS}',
                                               'SPHINXDIRS=virt/kvm', 'htmldocs'],
                           BUILD / f'log/{name}.log', env=env))


def base_warnings():
    """The base's warnings; kept, for they do not change."""
    tree = git(base.LINUX, 'rev-parse', 'base^{tree}').strip()
    saved = BUILD / f'docs-base-{tree[:12]}'
    if not saved.exists():
        found = build(kernel.worktree('base'), 'docs-base')
        saved.write_text(''.join(f'{line}\n' for line in found.elements()))
    return collections.Counter(saved.read_text().splitlines())


def check():
    known = base_warnings()
    fresh = build(series.TREE, 'docs') - known
    if fresh:
        raise Failure('\n'.join(fresh) + f'\n{sum(fresh.values())} new Sphinx warnings; '
                      'the whole log is build/log/docs.log.')
    say(f'No Sphinx warning beyond the {sum(known.values())} of the base.')
