# SPDX-License-Identifier: GPL-2.0
"""Remove what the harness made under build/, but not build/linux and the work trees of others."""
import shutil

import base
from util import BUILD, git, main, say

OURS = ('series', 'base-tree', 'prefix', 'debian', 'kmod', 'kmod-base', 'selftests', 'headers', 'plan', 'docs',
        'docs-base', 'model', 'run', 'mail', 'check-mail', 'am', 'log', 'k-full', 'k-full-base', 'k-debug', 'k-debug-base',
        'k-prefix', 'k-mutant', 'kmod-mutant', 'kmod-prove', 'kmod-mutant-prove', 'k-full-prove', 'k-debug-prove', 'k-gcov',
        'k-fault', 'k-mutant-fault', 'k-kcsan', 'k-kcsan-base', 'k-kcsan-prove', 'k-mutant-kcsan', 'coverage', 'bench',
        'bench-tree', 'kmod-bench', 'selftests-bench', 'headers-bench')


def run(_):
    for name in OURS:
        shutil.rmtree(BUILD / name, ignore_errors=True)
    for path in (*BUILD.glob('docs-base-*'), *BUILD.glob('init*'), *BUILD.glob('gcov*'), BUILD / 'prefix-base-warnings'):
        path.unlink(missing_ok=True)
    if base.LINUX.exists():
        git(base.LINUX, 'worktree', 'prune')
        say('Kept build/linux: delete build to start from nothing.')
    return 0


if __name__ == '__main__':
    main(run)
