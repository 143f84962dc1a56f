# SPDX-License-Identifier: GPL-2.0
"""Install the Debian packages that a command needs; with NO_INSTALL=1 list them and stop."""
import os
import subprocess

from util import BUILD, Failure, logged, main, output, say

GROUPS = {
    'base': 'git xz-utils',
    'build': 'gcc gcc-12 libc6-dev make flex bison bc libelf-dev libssl-dev perl',
    'boot': 'qemu-system-x86',
    'bochs': 'bochs bochsbios vgabios bochs-term isolinux syslinux-common xorriso bsdutils',
    'check': 'python3-sphinx python3-yaml python3-ply python3-git perl shellcheck cpio',
    'plots': 'python3-matplotlib',
    'sparse': 'sparse',
    'model': 'spin gcc libc6-dev',
}


def gcc_for_headers(names):
    """Debian's modules are built with the gcc its kernel names; 13 has another than 12."""
    release = open('/etc/os-release', encoding='utf-8').read()
    return names if 'VERSION_ID="12"' in release else [n for n in names if n != 'gcc-12'] + ['gcc-14']


def wanted(groups):
    names = ' '.join(GROUPS[group] for group in groups).split()
    if 'base' in groups and not os.environ.get('LINUX'):
        names.append('linux-source-6.12')
    return sorted(set(gcc_for_headers(names) if 'build' in groups else names))


def missing(names):
    got = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n', *names],
                         text=True, capture_output=True).stdout
    have = {line.split()[0] for line in got.splitlines() if line.endswith(' installed')}
    return [name for name in names if name not in have]


def install(names):
    sudo = [] if os.geteuid() == 0 else ['sudo']
    env = ['env', 'DEBIAN_FRONTEND=noninteractive']
    logged('Reading the package lists', [*sudo, 'apt-get', '-q', 'update'], BUILD / 'log/apt-update.log')
    logged(f'Installing {" ".join(names)}',
           [*sudo, *env, 'apt-get', '-q', '-y', 'install', '--no-install-recommends', *names],
           BUILD / 'log/apt-install.log')


def run(groups):
    if not os.path.exists('/usr/bin/dpkg-query') or not output(['dpkg', '--print-architecture']).startswith('amd64'):
        raise Failure('this needs Debian 12 or newer on amd64.')
    names = missing(wanted(groups))
    if names and os.environ.get('NO_INSTALL'):
        say('missing packages: ' + ' '.join(names))
        return 1
    if names:
        install(names)
    return 0


if __name__ == '__main__':
    main(run)
