# SPDX-License-Identifier: GPL-2.0
"""The format of a file in patches/: a mail header, the changelog, `---`, one `New-file:` line for
each whole file that the commit adds, then the diff of its edits to files that the base has."""
import dataclasses
import re

from util import Failure

HEADERS = ('From', 'Date', 'Subject')


@dataclasses.dataclass
class Patch:
    author: str
    date: str
    subject: str
    body: str
    new: list
    diff: str

    def filename(self, number):
        slug = re.sub(r'[^A-Za-z0-9._]+', '-', self.subject).strip('-.')[:52].rstrip('-.')
        return f'{number:04}-{slug}.patch'

    def text(self):
        listed = ''.join(f'New-file: {name}\n' for name in self.new)
        return (f'From: {self.author}\nDate: {self.date}\nSubject: [PATCH] {self.subject}\n\n'
                f'{self.body}\n---\n{listed}\n{self.diff}')

    def message(self):
        return f'{self.subject}\n\n{self.body}\n'

    def ident(self):
        """The environment that makes `git commit-tree` repeatable."""
        match = re.fullmatch(r'(.+?) <(\S+@\S+)>', self.author)
        if not match:
            raise Failure(f'"{self.subject}": write "From: Name <mail>" in the patch.')
        return {f'GIT_{who}_{what}': value for who in ('AUTHOR', 'COMMITTER') for what, value in
                (('NAME', match.group(1)), ('EMAIL', match.group(2)), ('DATE', self.date))}


def parse(name, text):
    """The Patch that a file of this name and text holds."""
    head, _, rest = text.partition('\n\n')
    fields = dict(re.findall(r'^(\w+): (.*)$', re.sub(r'\n[ \t]+', ' ', head), re.M))
    missing = [key for key in HEADERS if key not in fields]
    body, separator, rest = rest.partition('\n---\n')
    if missing or not separator:
        raise Failure(f'{name}: add {" and ".join(missing) or "a line ---"}; '
                      'a patch is From, Date, Subject, changelog, ---, New-file lines, diff.')
    rest = '\n' + rest
    listed, mark, diff = rest.partition('\ndiff --git ')
    subject = re.sub(r'^\[PATCH[^]]*\] *', '', fields['Subject'])
    return Patch(fields['From'], fields['Date'], subject, body.strip('\n'),
                 re.findall(r'^New-file: (\S+)$', listed, re.M), mark.lstrip('\n') + diff)


def without_line_numbers(text):
    """For a base other than the recorded one: the same patch at other line numbers."""
    return re.sub(r'^@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*$', '@@', text, flags=re.M)
