# SPDX-License-Identifier: GPL-2.0
"""The composer on a base of four files: what it gives, and all that it refuses."""
import contextlib
import io
import pathlib
import tempfile
import unittest
from unittest import mock

import base
import patchfile
import series
from util import Failure, git, output

HEADER = 'From: A B <a@example.com>\nDate: Tue, 24 Nov 2026 05:00:00 +0000\nSubject: [PATCH] KVM: {}\n\nWhy.\n---\n'
EDIT = ('diff --git a/virt/kvm/Makefile b/virt/kvm/Makefile\n--- a/virt/kvm/Makefile\n+++ b/virt/kvm/Makefile\n'
        '@@ -1,3 +1,4 @@\n one\n two\n+between\n three\n')


class Composer(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.repo, self.linux = (pathlib.Path(self.scratch.name) / name for name in ('repo', 'linux'))
        self.write(self.linux / 'virt/kvm/Makefile', 'one\ntwo\nthree\n')
        self.write(self.linux / 'Makefile', 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n')
        self.write(self.linux / 'tools/x', 'x\n')
        with contextlib.redirect_stdout(io.StringIO()):
            base.commit(self.linux)
        self.repo.mkdir()
        output(['git', 'init', '-q', self.repo])
        for module, name, value in ((series, 'LINUX', self.linux), (base, 'LINUX', self.linux),
                                    (series, 'REPO', self.repo)):
            patch = mock.patch.object(module, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def write(self, path, text, mode=0o644):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def patch(self, number, subject, new=(), diff=''):
        patch = patchfile.parse('x', HEADER.format(subject) + ''.join(f'New-file: {n}\n' for n in new) + '\n' + diff)
        self.write(self.repo / 'patches' / patch.filename(number), patch.text())

    def good(self):
        self.write(self.repo / 'virt/kvm/foo.c', 'foo\n')
        self.write(self.repo / 'tools/run.sh', '#!/bin/sh\n', 0o755)
        self.patch(1, 'Edit', diff=EDIT)
        self.patch(2, 'Add foo', new=['tools/run.sh', 'virt/kvm/foo.c'])

    def refused(self, words):
        with self.assertRaisesRegex(Failure, words):
            series.compose_commits(self.repo)

    def test_same_commit_twice_and_round_trip(self):
        self.good()
        commit = series.compose_commits(self.repo)
        self.assertEqual(commit, series.compose_commits(self.repo))
        files = series.split_files(f'base..{commit}')
        for name, (data, mode) in files.items():
            self.assertEqual(data, (self.repo / name).read_bytes(), name)
            self.assertEqual(mode, name.endswith('.sh'))
        self.assertEqual(len(files), 4)

    def test_no_fuzz(self):
        self.good()
        self.patch(1, 'Edit', diff=EDIT.replace(' two', ' 2'))
        self.refused('without fuzz')

    def test_claimed_by_none_and_by_two(self):
        self.good()
        self.write(self.repo / 'virt/kvm/bar.c', 'bar\n')
        self.refused('in no patch.*virt/kvm/bar.c')
        self.patch(3, 'Add bar', new=['virt/kvm/bar.c', 'virt/kvm/foo.c'])
        self.refused('foo.c is claimed by both')

    def test_claims_what_is_not_there_or_in_the_base(self):
        self.good()
        self.patch(3, 'Add bar', new=['virt/kvm/bar.c'])
        self.refused('not a file of the repository')
        self.write(self.repo / 'virt/kvm/bar.c', 'bar\n')
        self.write(self.repo / 'tools/x', 'mine\n')
        self.patch(3, 'Add bar', new=['virt/kvm/bar.c', 'tools/x'])
        self.refused('tools/x exists in the base')

    def test_patch_edits_a_new_file(self):
        self.good()
        self.patch(3, 'Edit foo', diff=EDIT.replace('Makefile', 'foo.c'))
        self.refused('is a new file of the repository')

    def test_patch_adds_a_file(self):
        self.good()
        self.patch(3, 'Add', diff='diff --git a/virt/n b/virt/n\nnew file mode 100644\n--- /dev/null\n+++ b/virt/n\n'
                   '@@ -0,0 +1 @@\n+n\n')
        self.refused('adds or deletes virt/n')

    def test_patch_without_header(self):
        self.good()
        self.write(self.repo / 'patches/0003-x.patch', EDIT)
        self.refused('add From')

    def test_split_refuses_a_file_that_grows(self):
        self.good()
        commit = series.compose_commits(self.repo)
        git(self.linux, 'checkout', '-q', commit)
        self.write(self.linux / 'virt/kvm/foo.c', 'foo\nmore\n')
        git(self.linux, 'commit', '-qam', 'Grow', env=base.IDENT)
        with self.assertRaisesRegex(Failure, 'squash'):
            series.split_files('base..HEAD')


class Format(unittest.TestCase):
    def test_round_trip(self):
        text = HEADER.format('Add') + 'New-file: a/b\n\n' + EDIT
        self.assertEqual(patchfile.parse('x', text).text(), text)

    def test_other_line_numbers(self):
        self.assertEqual(patchfile.without_line_numbers('@@ -1,2 +3,4 @@ f()\n x\n'), '@@\n x\n')


if __name__ == '__main__':
    unittest.main()
