# SPDX-License-Identifier: GPL-2.0
"""What every tool here needs: paths, commands that show progress, errors in one sentence."""
import contextlib
import fcntl
import os
import pathlib
import subprocess
import sys
import threading
import time

REPO = pathlib.Path(__file__).resolve().parent.parent
HARNESS = REPO / 'harness'
BUILD = REPO / 'build'
JOBS = os.environ.get('JOBS') or str(os.cpu_count() or 1)


# A make that runs this has options and variables for itself, not for the makes that follow.
for name in ('MAKEFLAGS', 'MFLAGS', 'MAKEOVERRIDES', 'MAKELEVEL'):
    os.environ.pop(name, None)


class Failure(Exception):
    """An error whose text is one sentence that says what to do."""


def say(text):
    print(text, flush=True)


@contextlib.contextmanager
def progress(label):
    """Print label, then the elapsed seconds: on a terminal all the time, else every 30 s."""
    start, done, tty = time.monotonic(), threading.Event(), sys.stdout.isatty()

    def tick():
        while not done.wait(1 if tty else 30):
            seconds = int(time.monotonic() - start)
            print(f'\r{label} ... {seconds} s' if tty else f'{label} ... {seconds} s',
                  end='' if tty else '\n', flush=True)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    word = 'failed'
    try:
        yield
        word = 'done'
    finally:
        done.set()
        thread.join()
        say(f'{chr(13) if tty else ""}{label}: {word} in {time.monotonic() - start:.0f} s')


def output(argv, **kw):
    """Run a short command and return its output, or fail with its last words."""
    got = subprocess.run([str(a) for a in argv], text=True, capture_output=True, **kw)
    if got.returncode:
        words = (got.stderr.strip() or got.stdout.strip()).splitlines()
        raise Failure(f'"{" ".join(map(str, argv[:6]))}" failed: {" / ".join(words[-3:])}')
    return got.stdout


def logged(label, argv, log, **kw):
    """Run a long command with progress, its output in a file; on failure show the end of it."""
    log = pathlib.Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with progress(label), open(log, 'w', encoding='utf-8') as out:
        code = subprocess.run([str(a) for a in argv], stdout=out, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, **kw).returncode
        if code:
            tail = log.read_text(errors='replace').splitlines()[-25:]
            raise Failure('\n'.join(tail) + f'\n{label} failed; the whole log is {relative(log)}.')
    return log.read_text(errors='replace')


def git(tree, *args, env=None, **kw):
    """Git without the user's configuration, so that results do not depend on it."""
    clean = dict(os.environ, GIT_CONFIG_NOSYSTEM='1', GIT_CONFIG_GLOBAL='/dev/null', **(env or {}))
    return output(['git', '-C', tree, *args], env=clean, **kw)


def relative(path):
    path = pathlib.Path(path)
    return path.relative_to(REPO) if path.is_relative_to(REPO) else path


def write_if_changed(path, data):
    """Keep the mtime of a file whose content does not change: make then rebuilds nothing."""
    data = data.encode() if isinstance(data, str) else data
    path = pathlib.Path(path)
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return True


def sync(files, out):
    """Make `out` hold exactly `files` ({name: bytes}), touching only what differs.
    Files in `out` that a build made (not listed last time) are left alone."""
    listing = out / '.synced'
    before = set(listing.read_text().split('\n')) if listing.exists() else set()
    changed = [name for name, data in files.items() if write_if_changed(out / name, data)]
    for name in before - set(files) - {''}:
        (out / name).unlink(missing_ok=True)
    write_if_changed(listing, '\n'.join(sorted(files)))
    return changed


@contextlib.contextmanager
def lock(name):
    """One user of a build directory at a time."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / f'.{name}.lock', 'w', encoding='utf-8') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'Waiting for another command that uses {name}.')
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(entry):
    """Run a command line entry point; a Failure is one message and exit code 1."""
    try:
        sys.exit(entry(sys.argv[1:]))
    except Failure as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        sys.exit(130)
