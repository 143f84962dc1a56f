# SPDX-License-Identifier: GPL-2.0
"""Trees that differ from the composed one by a few diffs: mutants, and what benchmarks compare with."""
import functools
import pathlib
import shutil
import tempfile

import base
from util import REPO, Failure, git, relative

BASELINES = REPO / 'baselines'


def diff_of(path):
    """A patch without what is said ahead of it."""
    _, mark, diff = path.read_text().partition('diff --git')
    if not mark:
        raise Failure(f'{relative(path)} has no diff.')
    return mark + diff


@functools.cache
def index(tree):
    """A directory with an index of the tree, which takes a while to read: once for all."""
    scratch = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
    git(base.LINUX, 'read-tree', tree, env={'GIT_INDEX_FILE': str(pathlib.Path(scratch.name) / 'index')})
    return scratch


def commit_of(paths):
    """The composed tree with these patches, in this order, as a commit."""
    name = paths[0].stem if len(paths) == 1 else paths[0].parent.name
    whole = index(git(base.LINUX, 'rev-parse', 'composed^{tree}').strip()).name
    with tempfile.TemporaryDirectory() as scratch:
        env = {'GIT_INDEX_FILE': shutil.copy(pathlib.Path(whole) / 'index', scratch)}
        for path in paths:
            try:
                git(base.LINUX, 'apply', '--cached', '-', input=diff_of(path), env=env)
            except Failure as error:
                raise Failure(f'{relative(path)} does not apply to the composed tree, refresh it: {error}') from None
        tree = git(base.LINUX, 'write-tree', env=env).strip()
    ident = {f'GIT_{who}_{what}': value for who in ('AUTHOR', 'COMMITTER')
             for what, value in (('NAME', 'variant'), ('EMAIL', 'variant@localhost'))}
    return git(base.LINUX, 'commit-tree', tree, '-p', 'composed', '-m', name, env=ident).strip()


def baselines():
    """All that benchmarks compare with, beside the series in one tree."""
    return commit_of(sorted(BASELINES.glob('*.patch')))
