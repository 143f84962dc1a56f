# SPDX-License-Identifier: GPL-2.0
"""What gcov says of files: lines, branches, and the reasons for what is not covered, from harness/uncovered.toml."""
import collections
import dataclasses
import itertools
import json
import os
import pathlib
import tomllib

from util import HARNESS, Failure, output, relative

REASONS = HARNESS / 'uncovered.toml'


@dataclasses.dataclass
class Line:
    """One line of a file, over all objects that were compiled from it."""
    text: str
    count: int = 0
    functions: set = dataclasses.field(default_factory=set)
    branches: list = dataclasses.field(default_factory=list)   # how often each was taken

    def add(self, entry):
        self.count += entry['count']
        self.functions.add(entry.get('function_name', ''))
        fresh = [branch['count'] for branch in entry['branches']]
        self.branches = [sum(both) for both in itertools.zip_longest(self.branches, fresh, fillvalue=0)]

    def keys(self):
        """How uncovered.toml names it."""
        return {f'{function}: {self.text}' for function in self.functions}


def report_of(place, name):
    """gcov's report of one object, by its name without suffix."""
    return json.loads(output(['gcov-12', '--json-format', '--branch-probabilities', '--stdout', name],
                             cwd=place))


def read(objects, tree, names):
    """{name: {number: Line}} of the named files of the tree, from the .gcno and .gcda files in `objects`."""
    found = {name: {} for name in names}
    texts = {name: (tree / name).read_text().split('\n') for name in names}
    for counters in sorted(objects.rglob('*.gcda')):
        report = report_of(counters.parent, counters.name)
        where = report['current_working_directory']
        for entry in report['files']:
            path = pathlib.Path(os.path.normpath(os.path.join(where, entry['file'])))
            name = str(path.relative_to(tree)) if path.is_relative_to(tree) else ''
            for line in entry['lines'] if name in found else ():
                number = line['line_number']
                found[name].setdefault(number, Line(texts[name][number - 1].strip())).add(line)
    return found


@dataclasses.dataclass
class Sum:
    lines: int = 0
    run: int = 0
    branches: int = 0
    taken: int = 0
    plain: int = 0          # branches of lines without a WARN
    plain_taken: int = 0

    def __add__(self, other):
        return Sum(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


def sum_of(lines):
    """The figures of one file."""
    total = Sum()
    for line in lines.values():
        branches, taken = len(line.branches), sum(count > 0 for count in line.branches)
        plain = 'WARN_ON' not in line.text
        total += Sum(1, line.count > 0, branches, taken, branches * plain, taken * plain)
    return total


def percent(part, whole):
    return 100 * part / whole if whole else 100.0


def table(found):
    """The figures of each file, and of all, as text; and the sum."""
    rows = [(name, sum_of(lines)) for name, lines in sorted(found.items()) if lines]
    rows.append(('all', sum((entry for _, entry in rows), Sum())))
    text = [f'{"":34} {"lines":>16} {"branches taken":>18} {"without WARN_ON":>18}']
    for name, entry in rows:
        text.append(f'{name:34} {entry.run:5}/{entry.lines:<4} {percent(entry.run, entry.lines):5.1f}'
                    f'  {entry.taken:6}/{entry.branches:<4} {percent(entry.taken, entry.branches):5.1f}'
                    f'  {entry.plain_taken:6}/{entry.plain:<4} {percent(entry.plain_taken, entry.plain):5.1f}')
    return '\n'.join(text), rows[-1][1]


def reasons(path=REASONS):
    """{file: {function and text of a line: why it is not covered}}."""
    found = collections.defaultdict(dict)
    for group in tomllib.loads(path.read_text()).get('uncovered', ()):
        if set(group) != {'file', 'why', 'lines'}:
            raise Failure(f'{relative(path)}: a group has file, why and lines.')
        for line in group['lines']:
            if line in found[group['file']]:
                raise Failure(f'{relative(path)}: "{line}" of {group["file"]} stands twice.')
            found[group['file']][line] = group['why']
    return found


def compare(found, why):
    """(lines of text, number of lines without a reason): each line that is not covered, and reasons of others."""
    text, unexplained = [], 0
    for name, lines in sorted(found.items()):
        used = set()
        for number, line in sorted(lines.items()):
            if line.count:
                continue
            key = next((key for key in sorted(line.keys()) if key in why.get(name, ())), None)
            used.add(key)
            unexplained += key is None
            text.append(f'{name}:{number}: {key or "NO REASON: " + sorted(line.keys())[0]}'
                        + (f'\n        {why[name][key]}' if key else ''))
        text += [f'{name}: {key}: has a reason in {relative(REASONS)}, but is covered, or is no more'
                 for key in sorted(set(why.get(name, ())) - used)]
    return text, unexplained
