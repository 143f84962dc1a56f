# SPDX-License-Identifier: GPL-2.0
"""Recorded boots (testdata/record.py made them): all but `pass` must come out as a failure."""
import dataclasses
import json
import unittest

import judge
from util import HARNESS


def recorded(kind):
    return judge.Boot(**json.loads((HARNESS / f'testdata/{kind}.json').read_text()))


def words(boot):
    return {verdict.name: verdict.word for verdict in judge.judge(boot)}


def why(boot, name):
    return next(verdict.why for verdict in judge.judge(boot) if verdict.name == name)


class Recorded(unittest.TestCase):
    def test_pass(self):
        self.assertEqual(set(words(recorded('pass')).values()), {'PASS'})

    def test_all_others_fail(self):
        kinds = sorted(path.stem for path in (HARNESS / 'testdata').glob('*.json'))
        self.assertEqual(kinds, ['fail', 'forge', 'hang', 'panic', 'pass', 'poweroff', 'reboot', 'skip',
                                 'stuck', 'warn'])
        for kind in kinds:
            if kind != 'pass':
                self.assertIn('FAIL', words(recorded(kind)).values(), kind)

    def test_what_a_test_leaves_out_has_to_be_allowed(self):
        boot = recorded('pass')
        name = boot.plan[0]
        console = boot.console.replace(f'# begin {name}', f'# begin {name}\nLeft out: huge pages, none here', 1)
        boot = dataclasses.replace(boot, console=console)
        self.assertEqual(why(boot, name), 'left out: huge pages, none here')
        self.assertEqual(words(dataclasses.replace(boot, may_leave_out={name: ['huge pages']}))[name], 'PASS')

    def test_panic_fails_the_test_and_those_after_it(self):
        got = words(recorded('panic'))
        self.assertEqual([got[name] for name in ('before', 'misbehave', 'after', 'boot')],
                         ['PASS', 'FAIL', 'FAIL', 'FAIL'])
        self.assertIn('Kernel panic', why(recorded('panic'), 'misbehave'))

    def test_hang_of_a_program_is_a_timeout(self):
        self.assertEqual(why(recorded('hang'), 'misbehave'), 'timeout')

    def test_hang_of_the_vm_is_a_timeout(self):
        self.assertIn('timeout after', why(recorded('stuck'), 'misbehave'))

    def test_early_power_off(self):
        for kind in ('poweroff', 'reboot'):
            self.assertEqual(words(recorded(kind))['misbehave'], 'FAIL')
            self.assertIn('no result', why(recorded(kind), 'misbehave'))

    def test_a_warning_fails_though_every_program_passed(self):
        self.assertEqual(words(recorded('warn'))['boot'], 'FAIL')

    def test_a_skip_needs_leave(self):
        boot = recorded('skip')
        self.assertEqual(words(boot)['misbehave'], 'FAIL')
        boot.may_skip = {'misbehave': True}
        self.assertEqual(words(boot)['misbehave'], 'SKIP')


class Changed(unittest.TestCase):
    """What a recorded pass comes to when one thing about it is off."""

    def changed(self, **kw):
        return words(dataclasses.replace(recorded('pass'), **kw))

    def test_missing_test(self):
        boot = recorded('pass')
        self.assertEqual(self.changed(plan=[*boot.plan, 'another'])['another'], 'FAIL')
        self.assertEqual(self.changed(plan=[*boot.plan, 'another'])['boot'], 'FAIL')

    def test_result_of_a_test_is_missing(self):
        lines = [line for line in recorded('pass').channel.splitlines() if 'misbehave' not in line]
        got = self.changed(channel='\n'.join(lines) + '\n')
        self.assertEqual((got['misbehave'], got['boot']), ('FAIL', 'FAIL'))

    def test_no_end_marker(self):
        lines = recorded('pass').channel.splitlines()[:-1]
        self.assertEqual(self.changed(channel='\n'.join(lines) + '\n')['boot'], 'FAIL')

    def test_nonce_of_another_boot(self):
        self.assertEqual(set(self.changed(nonce='0' * 32).values()), {'FAIL'})

    def test_results_on_the_console_count_for_nothing(self):
        boot = recorded('pass')
        got = self.changed(console=boot.console + boot.channel, channel='')
        self.assertEqual(set(got.values()), {'FAIL'})

    def test_reported_twice(self):
        lines = recorded('pass').channel.splitlines()
        self.assertEqual(self.changed(channel='\n'.join([*lines[:3], lines[2], *lines[3:]]))['misbehave'], 'FAIL')

    def test_qemu_that_failed(self):
        self.assertEqual(self.changed(ended='QEMU exit status 1')['boot'], 'FAIL')

    def test_splat_in_a_test(self):
        for text in ('WARNING: CPU: 0 PID: 9 at virt/kvm/kvm_main.c:1', 'BUG: KASAN: slab-use-after-free in x',
                     'WARNING: possible circular locking dependency detected', 'WARNING: suspicious RCU usage',
                     'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:', 'Oops: general protection fault',
                     'watchdog: BUG: soft lockup - CPU#0 stuck for 22s!', 'INFO: task x blocked for more than 120 s',
                     'Kernel panic - not syncing: corrupted stack end detected inside scheduler'):
            console = recorded('pass').console.replace('ok, now pass\n# end misb', f'[    1.0] {text}\n# end misb')
            self.assertEqual(self.changed(console=console)['misbehave'], 'FAIL', text)

    def test_a_trace_of_vmalloc_that_was_asked_for_too_much(self):
        lines = ['memory_region_l: vmalloc error: size 17179869176, exceeds total pages, mode:0x400dc0(X), nodemask=',
                 'CPU: 0 UID: 0 PID: 133 Comm: memory_region_l Tainted: G           OE      6.12.1 #1',
                 'Tainted: [O]=OOT_MODULE, [E]=UNSIGNED_MODULE', 'Hardware name: QEMU', 'Call Trace:', ' warn_alloc+0x1']
        stamped = [f'[    1.{number}] {line}' for number, line in enumerate(lines)]
        self.assertEqual(judge.splat(stamped), '')
        self.assertEqual(judge.splat(stamped[:2] + stamped[3:]), '', 'a kernel without taint')
        for number in (0, 1, 3):
            self.assertEqual(judge.splat(stamped[:number] + stamped[number + 1:]), 'Call Trace:', lines[number])
        for number, other in ((0, 'memory_region_l: vmalloc error: size 8, failed to allocate pages, mode:0x1'),
                              (0, 'another: vmalloc error: size 8, exceeds total pages, mode:0x1'),
                              (1, 'CPU: 0 UID: 0 PID: 133 Comm: another Not tainted 6.12.1 #1')):
            changed = [*stamped[:number], f'[    1.0] {other}', *stamped[number + 1:]]
            self.assertEqual(judge.splat(changed), 'Call Trace:', other)
        self.assertEqual(judge.splat([lines[0], *stamped[1:]]), 'Call Trace:', 'printed by a test')
        self.assertEqual(judge.splat([*stamped, stamped[4]]), 'Call Trace:', 'a second trace')
        self.assertIn('WARNING', judge.splat([*stamped[:4], '[    1.9] WARNING: CPU: 0', *stamped[4:]]))

    def test_a_warn_that_is_the_fault_of_the_bed(self):
        place, trace = 'arch/x86/kvm/vmx/vmx.c:6208', ' Call Trace:'
        first = 'WARNING: CPU: 1 PID: 61 at arch/x86/kvm/vmx/vmx.c:6208 vmx_handle_exit+0x4fd/0x660'

        def splat(*lines, places=(place,)):
            return judge.splat([f'[    7.{number}] {line}' for number, line in enumerate(lines)], places)
        self.assertEqual(splat(first, trace), '')
        self.assertEqual(splat(first.replace('exit+', 'exit.isra.0+'), trace), '')
        self.assertEqual(splat(first, first, trace, trace), '', 'of two CPUs')
        self.assertEqual(splat(first, trace, trace), 'Call Trace:', 'a second trace')
        self.assertIn('WARNING', splat(first, trace, places=()))
        self.assertIn('WARNING', splat(first.replace('vmx.c', 'nested.c'), trace))
        self.assertIn('WARNING', splat(first.replace('6208', '6209'), trace))
        self.assertIn('BUG', splat(first, 'BUG: unable to handle page fault', trace))
        self.assertIn('WARNING', judge.splat([first], (place,)), 'printed by a test')

    def test_such_a_warn_is_allowed_in_tests_or_while_booting(self):
        boot = recorded('pass')
        warn = '[    1.0] WARNING: CPU: 0 PID: 1 at a/b.c:12 f+0x1/0x2'
        console = boot.console.replace('ok, now pass\n# end misb', f'{warn}\n# end misb')
        for kind, in_test, before in (('test', 'PASS', 'FAIL'), ('boot', 'FAIL', 'PASS')):
            got = self.changed(console=console, warns={kind: ['a/b.c:12']})
            self.assertEqual((got['misbehave'], got['boot']), (in_test, 'PASS'))
            got = self.changed(console=f'{warn}\n{boot.console}', warns={kind: ['a/b.c:12']})
            self.assertEqual((got['misbehave'], got['boot']), ('PASS', before))

    def test_output_is_what_the_test_printed(self):
        verdicts = {verdict.name: verdict for verdict in judge.judge(recorded('pass'))}
        self.assertEqual(verdicts['misbehave'].output, 'ok, now pass')


if __name__ == '__main__':
    unittest.main()
