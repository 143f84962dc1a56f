# SPDX-License-Identifier: GPL-2.0
"""Intel's VMX under Bochs: the CD to boot from, the configuration, the command, how it ended.

Bochs gets `slower` seconds of the host for a second of the guest, whose clock counts instructions."""
import gzip
import shlex
import shutil

from util import Failure, output

LOADER = ('/usr/lib/ISOLINUX/isolinux.bin', '/usr/lib/syslinux/modules/bios/ldlinux.c32')
# With XSAVE the kernel WARNs; with the TSC as a clock, or its deadlines, the guest's time stands still once a vCPU
# has run.  Delays would be 175 times too long, each byte on the console one of them, as a CPU that claims 3.5 GHz
# executes `ips` instructions a second: lpj= says how many loops are in a jiffy.  MWAIT misses stores of a CPU whose
# TLB has the monitored page (MONITOR takes the physical address for a linear one when it drops that from the TLBs),
# and an idle CPU that has been given a task sleeps on.  A reboot has to end Bochs, it does at a triple fault.  One
# WARN while booting stays, so panic_on_warn is not here, but set by the plan.
ARGUMENTS = 'noxsave lapic=notscdeadline clocksource=acpi_pm tsc=unstable lpj=80000 idle=nomwait reboot=t'
CONFIGURATION = '''display_library: term
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
megs: {megs}
cpu: model={model}, count={cpus}, ips=20000000, reset_on_triple_fault=0
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="boot.iso", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=console
com2: enabled=1, mode=file, dev=channel
log: log
clock: sync=none
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
'''
POWERED_OFF = 'ACPI control: soft power off'


def image(place, kernel, arguments):
    """place/boot.iso: the kernel and place/initramfs."""
    root = place / 'iso'
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for part in LOADER:
        shutil.copy(part, root)
    shutil.copy(kernel, root / 'kernel')
    (root / 'initramfs').write_bytes(gzip.compress((place / 'initramfs').read_bytes(), 6))
    (root / 'isolinux.cfg').write_text(f'default linux\nprompt 0\nlabel linux\n kernel /kernel\n'
                                       f' append initrd=/initramfs {arguments}\n')
    output(['xorriso', '-as', 'mkisofs', '-quiet', '-o', place / 'boot.iso', '-b', 'isolinux.bin', '-c', 'boot.cat',
            '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table', root])
    shutil.rmtree(root)


def command(place, kernel, arguments, bed, cpus):
    """Write what Bochs needs to `place`; the command that runs it there.  It wants a terminal, and Debian's has
    the debugger, to which the first command is `c`."""
    image(place, kernel, f'{arguments} {ARGUMENTS}')
    (place / 'bochsrc').write_text(CONFIGURATION.format(megs=bed['megs'], model=bed['model'], cpus=cpus))
    (place / 'continue').write_text('c\n')
    run = 'bochs -q -f bochsrc -rc continue'
    return ['sh', '-c', f'cd {shlex.quote(str(place))} && exec env TERM=linux script -qefc "{run}" /dev/null']


def ended(place, how):
    """How it ended, by Bochs' log: its exit status says nothing of a guest that switched the machine off."""
    log = place / 'log'
    if how.startswith('timeout'):
        return how
    if not log.exists():
        raise Failure(f'{place}: Bochs did not start: {how}.')
    if POWERED_OFF in log.read_text(errors='replace'):
        return 'powered off'
    return 'exit without power off' if how == 'powered off' else how
