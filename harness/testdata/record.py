# SPDX-License-Identifier: GPL-2.0
"""Record the consoles that test_judge.py reads: boot a VM per kind of misbehaviour, on base modules."""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import boot         # noqa: E402  pylint: disable=wrong-import-position
import debian       # noqa: E402  pylint: disable=wrong-import-position
import judge        # noqa: E402  pylint: disable=wrong-import-position
import registry     # noqa: E402  pylint: disable=wrong-import-position
from util import BUILD, main, output, say   # noqa: E402  pylint: disable=wrong-import-position

KINDS = ('pass', 'fail', 'skip', 'forge', 'panic', 'hang', 'stuck', 'poweroff', 'reboot', 'warn')
KEEP = 12       # lines of the boot before the first test


def trimmed(console):
    lines = console.replace('\r', '').split('\n')
    first = next((i for i, line in enumerate(lines) if line.startswith('# begin')), len(lines))
    return '\n'.join(lines[max(0, first - KEEP):])


def record(kind, kernel, program):
    """Three tests, the second one misbehaves; keep what judge.judge() was given."""
    test = registry.Test('before', ('npt',), 20, binary='misbehave', args=('pass',))
    bad = registry.Test('misbehave', ('npt',), 4000 if kind == 'stuck' else 5, binary='misbehave',
                        args=('hang' if kind == 'stuck' else kind,))
    after = registry.Test('after', ('npt',), 20, binary='misbehave', args=('pass',))
    kept, original = [], judge.judge
    boot.judge.judge = lambda result: kept.append(result) or original(result)
    boot.BOOT_SECONDS = -3950 if kind == 'stuck' else 150
    verdicts, _ = boot.boot(boot.Job(f'record/{kind}', kernel, {'name': 'npt'}, [test, bad, after],
                                     {'misbehave': program}))
    boot.judge.judge = original
    data = dict(vars(kept[0]), console=trimmed(kept[0].console))
    (HERE / f'{kind}.json').write_text(json.dumps(data, indent=1) + '\n')
    say(f'{kind}: ' + ', '.join(f'{v.name} {v.word} {v.why}' for v in verdicts))


def run(args):
    program = BUILD / 'misbehave'
    output(['gcc', '-static', '-O2', '-Wall', '-o', program, HERE / 'misbehave.c'])
    kernel = debian.kernel('base', BUILD / 'kmod-base')
    for kind in args or KINDS:
        record(kind, kernel, program)
    return 0


if __name__ == '__main__':
    main(run)
