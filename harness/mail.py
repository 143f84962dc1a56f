# SPDX-License-Identifier: GPL-2.0
"""The composed series as mail: one file a patch and a cover letter, the same bytes on each run."""
import os

import base
from util import REPO, Failure, git, relative, say

COVER = REPO / 'patches/0000-cover.txt'
FOOTER = ('The series applies to v{version}: it was composed on {what}, and the blob ids in the\n'
          'patches are those of its files.\n')


def cover_text():
    """Subject and body of the cover letter."""
    if not COVER.exists():
        return 'No cover letter yet', f'Write {relative(COVER)}: a subject line, a blank line, the text.'
    subject, _, body = COVER.read_text().partition('\n')
    return subject.removeprefix('Subject: ').strip(), body.strip('\n')


def identity(commit):
    """The sender and date of the cover letter: those of the last patch."""
    name, email, date = git(base.LINUX, 'show', '-s', '--format=%an%x00%ae%x00%aD', commit).strip().split('\0')
    return {'GIT_COMMITTER_NAME': name, 'GIT_COMMITTER_EMAIL': email, 'GIT_COMMITTER_DATE': date}


def write(commit, out):
    """Write the mails into `out`, a directory that does not exist or is empty."""
    subject, body = cover_text()
    version = os.environ.get('V')
    git(base.LINUX, 'format-patch', '-q', '--cover-letter', '--full-index', '--zero-commit',
        '--no-signature', '--no-base', '--no-thread', '--no-renames', '-o', out,
        *([f'-v{version}'] if version else []), f'base..{commit}', env=identity(commit))
    letter = next(out.glob('*0000-cover-letter.patch'))
    text = letter.read_text()
    for mark, value in (('*** SUBJECT HERE ***', subject), ('*** BLURB HERE ***', body)):
        if mark not in text:
            raise Failure(f'git format-patch wrote no "{mark}"; this git is not known to work.')
        text = text.replace(mark, value, 1)
    footer = FOOTER.format(version=base.version(), what='that release as Debian ships it'
                           if 'LINUX' not in os.environ else 'a tree of that release')
    letter.write_text(text.rstrip('\n') + '\n\n' + footer)
    say(f'Wrote {len(list(out.glob("*.patch")))} mails to {relative(out)}; nothing is sent.')
