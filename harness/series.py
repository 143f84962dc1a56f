# SPDX-License-Identifier: GPL-2.0
"""compose: patches/ + new files -> commits on the base.   split: commits -> patches/ + new files."""
import pathlib
import re
import shutil
import subprocess
import tempfile

import base
import mail
import patchfile
from util import BUILD, REPO, Failure, git, lock, main, output, relative, say

LINUX = base.LINUX
TREE = BUILD / 'series'


def overlay(repo):
    """{path: file} of the new kernel files: all files under top directories the kernel also has."""
    tops = {line for line in git(LINUX, 'ls-tree', '-d', '--name-only', 'base').split()}
    if (repo / '.git').exists():
        names = output(['git', '-C', repo, 'ls-files', '-co', '--exclude-standard', '-z']).split('\0')
    else:
        names = [str(p.relative_to(repo)) for top in tops for p in (repo / top).rglob('*') if p.is_file()]
    return {name: repo / name for name in sorted(set(names))
            if name.split('/')[0] in tops and '/' in name and (repo / name).exists()}


def patches(repo):
    files = sorted((repo / 'patches').glob('*.patch'))
    if not files:
        raise Failure('patches/ holds no *.patch file, so there is no series to compose.')
    return [(path.name, patchfile.parse(path.name, path.read_text())) for path in files]


class Composer:
    """Builds the commits with plumbing in an index of its own: no work tree is touched."""

    def __init__(self, repo, index):
        self.files, self.claimed = overlay(repo), {}
        self.env = {'GIT_INDEX_FILE': str(index)}
        self.tip = git(LINUX, 'rev-parse', 'base^{commit}').strip()
        self.git('read-tree', 'base')

    def git(self, *args, **kw):
        return git(LINUX, *args, env=dict(self.env, **kw.pop('env', {})), **kw)

    def edit(self, name, patch):
        """Apply the diff without fuzz; it may only change files that the base has."""
        if not patch.diff:
            return
        for path in re.findall(r'^diff --git a/(\S+) b/', patch.diff, re.M):
            if path in self.files:
                raise Failure(f'{name} edits {path}, which is a new file of the repository; '
                              'edit it there instead.')
        try:
            self.git('apply', '--cached', '--whitespace=error', '-', input=patch.diff)
        except Failure as error:
            raise Failure(f'{name} does not apply to Linux {base.version()} without fuzz, '
                          f'refresh it: {error}') from None
        for line in self.git('diff-index', '--cached', '--name-status', '--no-renames',
                             self.tip).splitlines():
            if not line.startswith('M'):
                raise Failure(f'{name} adds or deletes {line[2:]}; a new file belongs at its path '
                              'in the repository with a New-file line.')

    def add(self, name, path):
        """Take a new file whole from the repository."""
        if path in self.claimed:
            raise Failure(f'{path} is claimed by both {self.claimed[path]} and {name}; keep one.')
        if path not in self.files or self.files[path].is_symlink():
            raise Failure(f'{name} claims {path}, which is not a file of the repository.')
        if self.git('ls-files', '--', path):
            raise Failure(f'{path} exists in the base; put the change into a patch instead.')
        self.claimed[path] = name
        mode = '100755' if self.files[path].stat().st_mode & 0o100 else '100644'
        blob = git(LINUX, 'hash-object', '-w', '--no-filters', self.files[path]).strip()
        self.git('update-index', '--add', '--cacheinfo', f'{mode},{blob},{path}')

    def commit(self, name, patch):
        self.edit(name, patch)
        for path in patch.new:
            self.add(name, path)
        tree = self.git('write-tree').strip()
        self.tip = self.git('commit-tree', tree, '-p', self.tip, input=patch.message(),
                            env=patch.ident()).strip()

    def finish(self):
        left = sorted(set(self.files) - set(self.claimed))
        if left:
            raise Failure('in no patch, add a New-file line to one: ' + ', '.join(left))
        return self.tip


def compose_commits(repo=REPO):
    """Compose and return the last commit; equal input gives the same commit id."""
    with tempfile.TemporaryDirectory() as scratch:
        composer = Composer(repo, pathlib.Path(scratch) / 'index')
        for name, patch in patches(repo):
            composer.commit(name, patch)
        return composer.finish()


def checkout(commit, tree):
    """Move a worktree to a commit; files that do not differ keep their mtimes."""
    if not (tree / '.git').exists():
        git(LINUX, 'worktree', 'prune')
        git(LINUX, 'worktree', 'add', '-q', '--detach', tree, commit)
    if git(tree, 'status', '--porcelain', '-uno'):
        raise Failure(f'{relative(tree)} is made by the composer but has edits: take them to '
                      f'build/linux, then run "git -C {relative(tree)} checkout -f HEAD".')
    git(tree, 'checkout', '-q', '--detach', commit)


def compose():
    """Compose into build/series; return the worktree."""
    base.ensure()
    with lock('series'):
        commit = compose_commits()
        git(LINUX, 'branch', '-f', 'composed', commit)
        checkout(commit, TREE)
    count = len(patches(REPO))
    say(f'Series: {count} patches on {base.version()}, commit {commit[:12]}, '
        f'tree {git(LINUX, "rev-parse", commit + "^{tree}")[:12]} in {relative(TREE)}')
    return TREE


def split_commit(commit, created):
    """The Patch of one commit, and note the files that it creates."""
    author, date, message = git(LINUX, 'show', '-s', '--format=%an <%ae>%x00%aD%x00%B', commit).split('\0')
    subject, _, body = message.strip('\n').partition('\n\n')
    edits, new = [], []
    for line in git(LINUX, 'diff-tree', '-r', '--no-commit-id', '--name-status', '--no-renames',
                    commit).splitlines():
        status, path = line.split('\t')
        if status == 'D':
            raise Failure(f'"{subject}" deletes {path}; this format has no deletions.')
        if path in created:
            raise Failure(f'"{subject}" changes {path}, which "{created[path]}" creates; '
                          'squash the two, a new file comes whole in one patch.')
        if status == 'A':
            created[path] = subject
        (new if status == 'A' else edits).append(path)
    if '\n---\n' in body or '\n' in subject:
        raise Failure(f'"{subject}": the changelog needs a subject of one line and no line ---.')
    diff = git(LINUX, 'diff', '--no-color', '--no-ext-diff', '--no-renames', '--diff-algorithm=myers',
               '-U3', f'{commit}^', commit, '--', *edits) if edits else ''
    return patchfile.Patch(author, date, subject, body.strip('\n'), new,
                           re.sub(r'^index \w+\.\.\w+.*\n', '', diff, flags=re.M))


def split_files(commits):
    """{path in the repository: (bytes, executable)} that the commits come to."""
    result, created = {}, {}
    if git(LINUX, 'rev-list', '--merges', commits).strip():
        raise Failure(f'{commits} has a merge; make it a line of commits first.')
    for number, commit in enumerate(git(LINUX, 'rev-list', '--reverse', commits).split(), 1):
        patch = split_commit(commit, created)
        result['patches/' + patch.filename(number)] = (patch.text().encode(), False)
    tip = commits.split('..')[1]
    for path in created:
        blob = subprocess.run(['git', '-C', LINUX, 'show', f'{tip}:{path}'], check=True,
                              capture_output=True).stdout
        result[path] = (blob, git(LINUX, 'ls-tree', tip, path).startswith('100755'))
    return result


def refuse_to_lose(files):
    """Splitting overwrites: stop when that would lose an edit that is not committed."""
    changed = output(['git', '-C', REPO, 'status', '--porcelain', '-uall', '--', *files]).splitlines()
    lost = [line[3:] for line in changed if (REPO / line[3:]).exists()
            and (REPO / line[3:]).read_bytes() != files[line[3:]][0]]
    if lost:
        raise Failure(f'{", ".join(lost)}: not committed and not as in the series; '
                      'commit or remove it first, splitting would overwrite it.')


def split(commits='base..series'):
    """Write the repository's kernel files and patches/ from commits of build/linux."""
    files = split_files(commits)
    if not files:
        raise Failure(f'{commits} holds no commit of build/linux.')
    refuse_to_lose(files)
    for path in (REPO / 'patches').glob('*.patch'):
        if f'patches/{path.name}' not in files:
            path.unlink()
    for name, (data, executable) in files.items():
        path = REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
    say(f'Wrote {len(files)} files from {commits}.')
    left = sorted(set(overlay(REPO)) - set(files))
    if left:
        say('In the repository but in no commit of the series: ' + ', '.join(left))


def run(args):
    if args == ['compose']:
        compose()
    elif args[:1] == ['split'] and len(args) <= 2:
        split(*args[1:])
    elif args == ['mail']:
        compose()
        shutil.rmtree(BUILD / 'mail', ignore_errors=True)
        mail.write('composed', BUILD / 'mail')
    else:
        raise Failure('usage: series.py compose | split [FIRST..LAST] | mail')
    return 0


if __name__ == '__main__':
    main(run)
