# SPDX-License-Identifier: GPL-2.0
"""Boot one VM: make its initramfs, start QEMU or Bochs, wait no longer than allowed, keep what it wrote."""
import dataclasses
import os
import pathlib
import secrets
import shlex
import stat
import subprocess
import threading

import bochs
import judge
import series
from util import BUILD, HARNESS, Failure, output, relative

MEMORY, CPUS = '3G', 2
BOOT_SECONDS = 150
ARGUMENTS = ('console=ttyS0,115200 printk.time=1 panic=-1 oops=panic softlockup_panic=1 '
             'loglevel=7 no_timer_check sysrq_always_enabled hung_task_panic=1')
PANIC_ON_WARN = 'panic_on_warn=1'
# identify_cpu() of the boot CPU forgets X86_FEATURE_LA57 for a moment, with interrupts on: KASAN then
# takes the direct map for wild memory, once in many boots.
NO_LA57 = 'no5lvl'
# Without CMPXCHG16B: QEMU 7.2 leaves garbage in EFLAGS behind it, see harness/cx16.md.
CPU_MODEL = 'max,-cx16'
SET = (('/proc/sys/kernel/panic_on_warn', '1'), ('/proc/sys/kernel/panic_on_oops', '1'))
MODULES = ('kvm', 'kvm-amd', 'kvm-intel')
running = {}        # label: process
running_lock = threading.Lock()


@dataclasses.dataclass
class Job:
    """One boot: a kernel, a bed and the tests to run there."""
    label: str
    kernel: tuple       # (image, {module: bytes} in load order)
    bed: dict
    tests: list         # of registry.Test
    binaries: dict      # {name: file}
    slower: int = 1
    settings: tuple = ()    # (file, value) to write before the first test


def cpio(files):
    """A newc archive of {path: (mode, bytes)}."""
    out = bytearray()
    for number, (path, (mode, data)) in enumerate([*files.items(), ('TRAILER!!!', (0, b''))], 1):
        name = path.encode() + b'\0'
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        out += b'070701' + b''.join(b'%08X' % field for field in fields) + name
        out += b'\0' * (-len(out) % 4) + data
        out += b'\0' * (-len(out) % 4)
    return bytes(out)


def guest_program(name):
    """A static program of harness/guest, built once."""
    source, program = HARNESS / f'guest/{name}.c', BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        fresh = BUILD / f'{name}.{os.getpid()}.{threading.get_ident()}'
        output(['gcc', '-static', '-O2', '-Wall', '-Wextra', '-Werror', '-o', fresh, source])
        fresh.rename(program)
    return program


def machine(bed):
    return bed.get('machine', 'qemu')


def loaded(kernel):
    """The modules that these beds load, in order."""
    return [name for name in kernel[1] if name != 'kvm-intel']


def plan_lines(job, nonce):
    """The text of /plan, and the names of the results it leads to."""
    modules = loaded(job.kernel)
    names = [test.name for test in job.tests] + ['unload'] * bool(modules)
    lines = [f'nonce {nonce}', f'plan {len(names)}']
    lines += [f'load /mod/{name}.ko {job.bed.get(name, "")}' for name in modules]
    lines += [f'set {path} {value}' for path, value in SET
              if not (path.endswith('panic_on_warn') and job.bed.get('warns', {}).get('test'))]
    lines += [f'set {path} {value}' for path, value in job.settings]
    lines += [f'test {test.timeout * job.slower} {test.name} /test/{test.name} {" ".join(test.args)}'.rstrip()
              for test in job.tests]
    if modules:
        lines.append('unload kvm_amd kvm')
    return '\n'.join(lines) + '\n', names


def initramfs(job, plan):
    directory, program = (stat.S_IFDIR | 0o755, b''), stat.S_IFREG | 0o755
    files = {name: directory for name in ('dev', 'proc', 'sys', 'tmp', 'mod', 'test')}
    files['init'] = (program, guest_program('init').read_bytes())
    files['plan'] = (stat.S_IFREG | 0o644, plan.encode())
    files |= {f'mod/{name}.ko': (stat.S_IFREG | 0o644, job.kernel[1][name]) for name in loaded(job.kernel)}
    files |= {f'test/{test.name}': (program, job.binaries[test.program].read_bytes())
              for test in job.tests}
    return cpio(files)


def built_in(bed):
    """The parameters of the bed's modules, for a kernel that has them built in."""
    return [f'{module.replace("-", "_")}.{value}' for module in MODULES for value in bed.get(module, '').split()]


def command(job, place):
    """The command of the machine.  The first serial port is the console, the second the result channel."""
    if machine(job.bed) == 'bochs':
        return bochs.command(place, job.kernel[0], ' '.join([ARGUMENTS, *built_in(job.bed)]), job.bed, CPUS)
    arguments = ' '.join([ARGUMENTS, PANIC_ON_WARN] + ([] if job.kernel[1] else [NO_LA57, *built_in(job.bed)]))
    return ['qemu-system-x86_64', '-accel', f'tcg,thread={os.environ.get("THREAD", "single")}',
            *job.bed.get('more', ()), '-cpu', CPU_MODEL, '-smp', str(job.bed.get('cpus', CPUS)), '-m', MEMORY,
            '-nodefaults', '-no-reboot', '-display', 'none',
            '-serial', f'file:{place}/console', '-serial', f'file:{place}/channel',
            '-kernel', str(job.kernel[0]), '-initrd', f'{place}/initramfs', '-append', arguments]


def alive(job):
    with running_lock:
        return job.label in running


def place_of(name, text):
    """FILE:LINE of the statement that begins with `text`, in the tree that was built."""
    for number, line in enumerate((series.TREE / name).read_text().split('\n'), 1):
        if line.strip().startswith(text):
            return f'{name}:{number}'
    raise Failure(f'harness/intel.toml: {name} has no statement "{text}".')


def wait(label, argv, place, seconds):
    """Run the machine; say how it ended."""
    with open(place / 'machine', 'w', encoding='utf-8') as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with running_lock:
            running[label] = process
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f'timeout after {seconds} s'
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with running_lock:
                running.pop(label)
    return 'powered off' if code == 0 else f'exit status {code}, see {relative(place / "machine")}'


def stop_all():
    """Called when the user interrupts: end the VMs that are running."""
    with running_lock:
        for process in running.values():
            process.kill()


def read(path):
    return path.read_text(errors='replace') if path.exists() else ''


def boot(job):
    """Run the job; return its verdicts and the directory with all that it left."""
    missing = [test.program for test in job.tests if test.program not in job.binaries]
    if missing:
        raise Failure(f'{", ".join(missing)}: not built.')
    nonce = secrets.token_hex(16)
    place = pathlib.Path(BUILD / 'run' / job.label)
    place.mkdir(parents=True, exist_ok=True)
    for name in ('console', 'channel'):
        (place / name).unlink(missing_ok=True)
    plan, names = plan_lines(job, nonce)
    (place / 'initramfs').write_bytes(initramfs(job, plan))
    argv = command(job, place)
    (place / 'command').write_text(shlex.join(argv) + '\n')
    limit = (BOOT_SECONDS + sum(test.timeout + 5 for test in job.tests)) * job.slower * job.bed.get('slower', 1)
    ended = wait(job.label, argv, place, limit)
    if machine(job.bed) == 'bochs':
        ended = bochs.ended(place, ended)
    result = judge.Boot(nonce, names, read(place / 'channel'), read(place / 'console'), ended,
                        {test.name: True for test in job.tests if job.bed['name'] in test.skip},
                        {test.name: test.left_out.get(job.bed['name'], ()) for test in job.tests},
                        {kind: [place_of(*warn) for warn in warns] for kind, warns in job.bed.get('warns', {}).items()})
    verdicts = judge.judge(result)
    if all(verdict.word != 'FAIL' for verdict in verdicts):
        (place / 'initramfs').unlink()
    return verdicts, place
