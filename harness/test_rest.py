# SPDX-License-Identifier: GPL-2.0
"""Small parts: fragments, warnings, the archive, the registry, the comparison with the base."""
import contextlib
import io
import pathlib
import subprocess
import tempfile
import types
import unittest

import bochs
import boot
import claims
import docs
import judge
import kernel
import mutants
import prefixes
import registry
import run
import sites
import syzlang
import util


class Parts(unittest.TestCase):
    def test_lost_lines_of_a_fragment(self):
        config = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\n'
        self.assertEqual(list(kernel.lost('CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=y\nCONFIG_D=y\n# x', config)),
                         ['CONFIG_C=y', 'CONFIG_D=y'])

    def test_compiler_and_sparse_warnings_do_not_depend_on_lines_or_place(self):
        log = ('/some/where/arch/x86/kvm/x86.c:12:3: warning: context imbalance\n'
               '../virt/kvm/kvm_main.c:5:6: error: no\nnothing: here\n')
        self.assertEqual(sorted(prefixes.warnings(log)),
                         ['arch/x86/kvm/x86.c: warning: context imbalance', 'virt/kvm/kvm_main.c: error: no'])

    def test_sphinx_warnings(self):
        log = '/a/b/Documentation/virt/kvm/api.rst:12: WARNING: Title underline too short.\n'
        self.assertEqual(list(docs.warnings(log)), ['Documentation/virt/kvm/api.rst: '
                                                    'WARNING: Title underline too short.'])

    def test_cpio(self):
        data = boot.cpio({'a': (0o40755, b''), 'a/b': (0o100644, b'text')})
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(['cpio', '-i', '--quiet'], input=data, cwd=place, check=True)
            self.assertEqual((pathlib.Path(place) / 'a/b').read_text(), 'text')

    def test_sync_touches_only_what_differs(self):
        with tempfile.TemporaryDirectory() as place:
            out = pathlib.Path(place)
            self.assertEqual(util.sync({'a': b'1', 'b/c': b'2'}, out), ['a', 'b/c'])
            (out / 'a.o').write_text('built')
            self.assertEqual(util.sync({'a': b'1', 'd': b'3'}, out), ['d'])
            self.assertEqual(sorted(p.name for p in out.rglob('*') if p.is_file()), ['.synced', 'a', 'a.o', 'd'])

    def test_registry_is_sound(self):
        reg = registry.load()
        for test in reg.tests:
            self.assertTrue(test.proves and test.beds and test.base in ('same', 'skip', 'fail', 'none'), test.name)
            self.assertEqual(test.base == 'fail', bool(test.fails), test.name)

    def test_registry_refuses_unknown_fields(self):
        with self.assertRaisesRegex(util.Failure, 'unknown colour'):
            registry.test_of({'name': 'x', 'beds': ['npt'], 'timeout': 1, 'colour': 'red'}, {'npt': {}})

    def test_a_test_may_run_in_one_lane_only(self):
        tests = [registry.Test('a', ('npt',), 1), registry.Test('b', ('npt',), 1, lane='fault')]

        def names(lane, only, *named):
            return [test.name for test in registry.of_lane(tests, lane, only, named)]
        self.assertEqual((names('debian', False), names('fault', False), names('fault', True)),
                         (['a'], ['a', 'b'], ['b']))
        with self.assertRaisesRegex(util.Failure, 'b runs with LANE=fault'):
            names('debian', False, 'b')
        self.assertLessEqual({test.lane for test in registry.load().tests}, {'', *registry.load().lanes})

    def test_places_that_can_fail(self):
        text = ('static int one(int a,\n\t       int b)\n{\n\tp = kvmalloc_array(f(a), (b), X);\n\tq = kzalloc(1, X);\n'
                '\tr = kzalloc(1,\n\t\t    X);\n\tkvfree(p); /* kmalloc(x) */\n}\n\nint two(void)\n{\n\tone(1, 2);\n\tput_user(1, p);\n}\n')
        self.assertEqual(sites.in_source(text), {'one': 3, 'two': 1})
        self.assertEqual(sites.in_table('\t{ "one", 2, 1, ALWAYS },\n'), {'one': 3})

    def test_beds(self):
        beds = registry.load().beds
        for name, bed in beds.items():
            self.assertEqual(boot.machine(bed) == 'bochs', name.startswith('intel-'), name)
            self.assertEqual(bed.get('all', False), name.startswith('intel-'), name)
        self.assertEqual([name for name, bed in beds.items() if bed.get('warns', {}).get('test')], ['intel-ept'])
        with self.assertRaisesRegex(util.Failure, 'unknown colour, machine vax'):
            registry.check_bed('x', {'machine': 'vax', 'colour': 'red'})

    def test_how_bochs_ended(self):
        with tempfile.TemporaryDirectory() as place:
            log = pathlib.Path(place) / 'log'
            for text, how, wanted in ((bochs.POWERED_OFF, 'exit status 1', 'powered off'),
                                      ('>>PANIC<< triple fault', 'exit status 1', 'exit status 1'),
                                      ('', 'powered off', 'exit without power off'),
                                      (bochs.POWERED_OFF, 'timeout after 1 s', 'timeout after 1 s')):
                log.write_text(text)
                self.assertEqual(bochs.ended(pathlib.Path(place), how), wanted)

    def test_delays_are_of_the_same_beds(self):
        beds = {'a': {}, 'a-delay': {'of': 'a'}, 'b-delay': {'of': 'b'}, 'b': {}}
        test = registry.Test('x', ('a',), 1, delays=True, left_out={'a': ['this']})
        got = registry.with_delays(test, beds)
        self.assertEqual((got.beds, got.left_out), (('a', 'a-delay'), {'a': ['this'], 'a-delay': ['this']}))
        self.assertEqual(registry.with_delays(registry.Test('x', ('a',), 1), beds).beds, ('a',))
        with self.assertRaises(registry.Failure):
            registry.with_delays(registry.Test('x', ('a',), 1, delays='late'), beds)
        bed = registry.delayed_bed({'of': 'a', 'kvm': 'x=1 y=2'}, {'a': {'text': 'A', 'kvm': 'z=0', 'kvm-amd': ''}})
        self.assertEqual(bed['kvm'], 'z=0 memslot_delay_x=1 memslot_delay_y=2')

    def difference(self, base_word, series_word, kind):
        test = registry.Test('t', ('npt',), 1, base=kind)
        done = [(types.SimpleNamespace(label=f'debian/{where}/npt/t', tests=[test]),
                 [judge.Verdict('t', word), judge.Verdict('boot', 'PASS')])
                for where, word in (('base', base_word), ('series', series_word))]
        return list(run.compare_with_base(done))

    def test_comparison_with_the_base(self):
        self.assertEqual(self.difference('PASS', 'PASS', 'same'), [])
        self.assertEqual(self.difference('SKIP', 'PASS', 'skip'), [])
        self.assertEqual(len(self.difference('PASS', 'FAIL', 'same')), 1)
        self.assertEqual(len(self.difference('PASS', 'PASS', 'skip')), 1)
        self.assertEqual(self.difference('PASS', 'PASS', 'fail'), [])

    def test_a_claim_that_a_test_does_not_show_is_an_orphan(self):
        text = '/*\n * Shows no-x.\n *\n * Not shown: no-hole, or\n * no-pause.\n */\nint no_hole;\n'
        self.assertEqual(claims.shown(text), '/*\n * Shows no-x.\n *\n */\nint no_hole;\n')
        self.assertTrue(claims.stands('no-x', text))
        self.assertFalse(claims.stands('no-hol', text) or claims.stands('pause', text))

    def test_a_hazard_has_a_test_or_a_reason(self):
        reg, proofs = registry.load(), {name: {'what': 'x', 'none': 'y'} for name in claims.HAZARDS}
        self.assertEqual(claims.unproven(proofs, reg, []), [])
        self.assertEqual(len(claims.unproven(proofs | {'C1': {'what': 'x'}}, reg, [])), 1)
        self.assertEqual(len(claims.unproven(proofs | {'C20': proofs['C1']}, reg, [])), 1)
        self.assertEqual(len(claims.unproven(proofs | {'C1': {'what': 'x', 'tests': ['nobody']}}, reg, [])), 1)
        named = proofs | {'C1': {'what': 'x', 'tests': ['memory_region_list_race_test']}}
        mutant = mutants.Mutant('m', 'C1', 'memory_region_list_race_test', ['npt'], '', '')
        self.assertEqual(len(claims.unproven(named, reg, [])), 1)
        self.assertEqual(claims.unproven(named, reg, [mutant]), [])
        fixed = proofs | {'F5': {'what': 'x', 'tests': ['dirty_ring_reset_test']}}
        self.assertEqual(claims.unproven(fixed, reg, []), [])
        self.assertEqual(len(claims.unproven(proofs, reg, [mutants.Mutant('m', 'C1', 'memory_region_list_race_test', ['npt'], '', '')])), 1)

    def test_mutants_name_tests_and_beds_of_the_registry(self):
        reg = registry.load()
        for path in mutants.PLACE.glob('*.patch'):
            mutant = mutants.parse(path)
            wanted = mutant.attacks(reg)
            self.assertEqual({bed for _, bed, *_ in wanted}, set(mutant.beds), mutant.name)
            self.assertEqual(any(test.name == mutants.FUZZER for test, *_ in wanted), bool(mutant.also), mutant.name)
            self.assertEqual(any(verifies for *_, verifies in wanted), bool(mutant.proved), mutant.name)

    def test_a_row_names_all_that_noticed(self):
        reg, mutant = registry.load(), mutants.Mutant('m', 'C1', 'memory_region_list_race_test', ['npt', 'shadow'], 'x', '')
        wanted = mutant.who_has_to(reg)
        self.assertEqual(wanted, [('memory_region_list_race_test', 'npt'), ('memory_region_list_race_test', 'shadow')])
        row = mutant.row(dict.fromkeys(wanted, 'y'))
        self.assertEqual(row, '| C1 | m | x | memory_region_list_race_test, npt, shadow | ')
        self.assertNotEqual(mutant.row({wanted[0]: 'y', wanted[1]: None}), row)
        self.assertEqual(mutant.row(dict.fromkeys(wanted)), '| C1 | m | x | nothing | ')

    def test_a_mutant_has_to_fail_as_it_says(self):
        mutant = mutants.Mutant('m', 'h', 't', ['npt'], 'what', 'wanted .* got 0')

        def noticed(word, output):
            with contextlib.redirect_stdout(io.StringIO()):
                return mutants.noticed(mutant.fails, [judge.Verdict('t', word, 'exit status 254', 0, output)])
        self.assertEqual(noticed('FAIL', 'wanted a bit, got 0'), 'exit status 254, after 0 s')
        self.assertIsNone(noticed('FAIL', 'wanted a bit, got 1'))
        self.assertIsNone(noticed('PASS', 'wanted a bit, got 0'))

    def test_a_description_for_syzkaller(self):
        text = ('ioctl$KVM_X(fd fd_kvmvm, cmd const[KVM_X])\n# KVM_NOT\nf = KVM_A, KVM_B\n\nhead {\n'
                '\tn\t\tlen[rest, int32]\n\tout\tint32\t(out)\n\tmany\tarray[const[0, int64], 2]\n'
                '\trest\tarray[entry, 0:16]\n}\n')
        self.assertEqual(syzlang.structs(text), {'head': (24, {'n': 0, 'out': 4, 'many': 8, 'rest': 24})})
        self.assertEqual(syzlang.constants(text), ['KVM_A', 'KVM_B', 'KVM_X'])
        with self.assertRaises(util.Failure):
            syzlang.size_of('strange')

    def test_what_skips_on_the_base_shares_a_boot(self):
        tests = [registry.Test(name, ('npt',), 1, base=kind)
                 for name, kind in (('a', 'skip'), ('b', 'same'), ('c', 'skip'), ('d', 'none'))]
        boots = {name: [test.name for test in together] for name, together in run.boots_of(tests, 'base', 'npt')}
        self.assertEqual(boots, {'b': ['b'], 'skips': ['a', 'c']})
        self.assertEqual(len(list(run.boots_of(tests, 'series', 'npt'))), 4)
        job = types.SimpleNamespace(label='debian/base/npt/skips', tests=[tests[0], tests[2]])
        verdicts = [judge.Verdict(name, word) for name, word in (('a', 'SKIP'), ('c', 'FAIL'), ('boot', 'PASS'))]
        self.assertEqual([(name, word) for name, _, word in run.outcomes([(job, verdicts)])],
                         [('base/npt/a', 'SKIP'), ('base/npt/c', 'FAIL')])

    def test_a_test_of_a_fix_has_to_fail_without_it(self):
        test = registry.Test('t', ('npt',), 1, base='fail', fails='signal 14')

        def words(*got, why='signal 14'):
            verdicts = [judge.Verdict(name, word, why) for name, word in zip(('t', 'unload', 'boot'), got)]
            return [verdict.word for verdict in run.without_the_fix(test, verdicts)]
        self.assertEqual(words('FAIL', 'PASS', 'PASS', why='exit status 127'), ['FAIL', 'PASS', 'PASS'])
        self.assertEqual(words('FAIL', 'PASS', 'PASS'), ['PASS'])
        self.assertEqual(words('PASS', 'PASS', 'PASS'), ['FAIL', 'PASS', 'PASS'])
        self.assertEqual(words('FAIL', 'PASS', 'FAIL'), ['FAIL', 'PASS', 'FAIL'])
        self.assertEqual(words('SKIP', 'PASS', 'PASS'), ['SKIP', 'PASS', 'PASS'])


if __name__ == '__main__':
    unittest.main()
