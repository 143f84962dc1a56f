# SPDX-License-Identifier: GPL-2.0
"""The fast lane: Debian's own kernel image, with only kvm.ko, kvm-amd.ko and kvm-intel.ko rebuilt.
Image and headers are downloaded and unpacked into build/debian: nothing is installed."""
import io
import lzma
import re
import shutil
import subprocess
import tarfile

import base
from util import BUILD, JOBS, Failure, git, lock, logged, main, output, progress, relative, say, sync

ROOT = BUILD / 'debian'
KVM_DIRS = ('arch/x86/kvm', 'virt/kvm')
HEADER_DIRS = ('include', 'arch/x86/include')
# Kconfig symbols that Debian's configuration lacks, given to make and to the compiler alike.
SYMBOLS = ('CONFIG_HAVE_KVM_MEMSLOT_LIST', 'CONFIG_KVM_SW_PROTECTED_VM')
# What PROVE=1 adds.
PROVE = 'CONFIG_KVM_PROVE_MEMSLOT_LIST'
REBUILT = ('kvm', 'kvm-amd', 'kvm-intel')
PLAIN = ('irqbypass', 'ccp')


def release():
    """Debian's name for the kernel that equals the base, such as 6.12.117+deb12-amd64."""
    wanted = re.compile(rf'linux-headers-({re.escape(base.version())}\+\S*?-amd64)')
    names = output(['apt-cache', 'pkgnames', f'linux-headers-{base.version()}+']).split()
    found = sorted(m.group(1) for m in map(wanted.fullmatch, names)
                   if m and not re.search(r'-(rt|cloud)-', m.group(1)))
    if not found:
        raise Failure(f'Debian offers no kernel {base.version()}: run "apt-get update", '
                      'or use the full kernel with LANE=full.')
    return found[-1]


def download(name):
    """Download and unpack what the lane needs of four packages."""
    common = name.removesuffix('-amd64')
    packages = [f'linux-image-{name}', f'linux-headers-{name}', f'linux-headers-{common}-common',
                f'linux-kbuild-{common}']
    partial = BUILD / 'debian.partial'
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    logged(f"Downloading Debian's kernel {name}", ['apt-get', '-q', 'download', *packages],
           BUILD / 'log/download.log', cwd=partial)
    with progress('Unpacking it'):
        for deb in sorted(partial.glob('*.deb')):
            output(['bash', '-c', 'set -o pipefail; dpkg-deb --fsys-tarfile "$0" | '
                    'tar -x --wildcards --exclude=./usr/share/doc "./boot/vmlinuz*" "./usr/*" '
                    '"*/irqbypass.ko*" "*/ccp.ko*" 2>/dev/null || test $? = 2', deb], cwd=partial)
            deb.unlink()
    relocate(partial, name)
    (partial / 'release').write_text(name)
    shutil.rmtree(ROOT, ignore_errors=True)
    partial.rename(ROOT)


def relocate(root, name):
    """Make the unpacked headers point at each other instead of at the root directory."""
    headers = root / f'usr/src/linux-headers-{name}'
    makefile = headers / 'Makefile'
    makefile.write_text(makefile.read_text().replace(
        'include /usr/src/', 'include $(dir $(lastword $(MAKEFILE_LIST)))/../'))


def ensure():
    """build/debian with the kernel that equals the base; return its release name."""
    with lock('debian'):
        stamp = ROOT / 'release'
        if not (stamp.exists() and stamp.read_text().startswith(base.version() + '+')):
            download(release())
    return (ROOT / 'release').read_text()


def tree_files(commit, paths):
    """{path: bytes} of the files below paths in a commit."""
    data = subprocess.run(['git', '-C', base.LINUX, 'archive', commit, '--', *paths], check=True,
                          capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def module_source(commit):
    """The files of the out-of-tree build: KVM, and the headers that the series changes."""
    files = tree_files(commit, KVM_DIRS)
    changed = git(base.LINUX, 'diff', '--name-only', 'base', commit, '--', *HEADER_DIRS).split()
    if changed:
        files |= tree_files(commit, changed)
    makefile = files['arch/x86/kvm/Makefile'].decode()
    makefile = makefile.replace('$(srctree)/arch/x86/kvm', '$(src)')
    makefile = makefile.replace('$(srctree)/virt/kvm', '$(src)/../../../virt/kvm')
    first = ('# Changed headers come first; trace headers are found relative to include/trace.\n'
             'kvm-root := $(src)/../../..\n'
             'LINUXINCLUDE := -I$(kvm-root)/arch/x86/include -I$(kvm-root)/include '
             '-I$(kvm-root)/arch/x86/include/uapi -I$(kvm-root)/include/uapi $(LINUXINCLUDE)\n'
             'ccflags-y += -I$(kvm-root)/include/trace\n')
    files['arch/x86/kvm/Makefile'] = (first + makefile).encode()
    files['include/trace/.keep'] = b''
    return files


def modules(commit, out, prove=False):
    """Build the modules of a commit in the directory `out`; return {name: file}."""
    symbols = (*SYMBOLS, PROVE) if prove else SYMBOLS
    headers = ROOT / f'usr/src/linux-headers-{ensure()}'
    with lock(out.name):
        sync(module_source(commit), out)
        # BTF would need pahole, and nobody here reads it.
        flags = ' '.join(f'-D{symbol}=1' for symbol in symbols)
        logged(f'Building kvm modules in {relative(out)}',
               ['make', '-C', headers, f'-j{JOBS}', f'M={out / "arch/x86/kvm"}', f'KCFLAGS={flags}',
                'CONFIG_DEBUG_INFO_BTF_MODULES=', *[f'{symbol}=y' for symbol in symbols], 'modules'],
               BUILD / f'log/{out.name}.log')
    return {name: out / f'arch/x86/kvm/{name}.ko' for name in REBUILT}


def plain_modules():
    """{name: bytes} of the modules that kvm needs and that stay as Debian built them."""
    found = {}
    for name in PLAIN:
        path = next(ROOT.rglob(f'{name}.ko*'), None)
        if path is None:
            raise Failure(f'{relative(ROOT)} lacks {name}.ko; delete that directory and run again.')
        data = path.read_bytes()
        found[name] = lzma.decompress(data) if path.suffix == '.xz' else data
    return found


def kernel(commit, out, prove=False):
    """The image and the modules to boot, in load order."""
    built = modules(commit, out, prove)
    image = next((ROOT / 'boot').glob('vmlinuz*'))
    return image, plain_modules() | {name: stripped(path) for name, path in built.items()}


def stripped(path):
    """A module without its debug information, which is most of it."""
    small = path.with_suffix('.stripped')
    output(['objcopy', '--strip-debug', path, small])
    return small.read_bytes()


def run(args):
    commit, out = ('base', 'kmod-base') if args == ['base'] else ('composed', 'kmod')
    for name, path in modules(commit, BUILD / out).items():
        say(f'{name}: {relative(path)}')
    return 0


if __name__ == '__main__':
    main(run)
