# SPDX-License-Identifier: GPL-2.0
"""What is made of gcov's reports, and the switches of kernels that count or look for data races."""
import pathlib
import tempfile
import types
import unittest

import cover
import gcov
import kernel
import series
import util


def line(text, count, *branches, function='f'):
    """A line as gcov reports it."""
    made = gcov.Line(text)
    made.add({'count': count, 'function_name': function, 'branches': [{'count': taken} for taken in branches]})
    return made


class Gcov(unittest.TestCase):
    def test_a_line_of_a_header_is_the_sum_of_all_objects(self):
        both = line('if (a && b)', 3, 3, 0)
        both.add({'count': 0, 'function_name': 'g', 'branches': [{'count': 0}, {'count': 1}, {'count': 0}]})
        self.assertEqual((both.count, both.branches), (3, [3, 1, 0]))
        self.assertEqual(both.keys(), {'f: if (a && b)', 'g: if (a && b)'})

    def test_figures(self):
        found = {'a.c': {1: line('if (x)', 2, 2, 0), 2: line('WARN_ON_ONCE(x);', 2, 0, 2)},
                 'b.c': {1: line('return 0;', 0)}, 'c.h': {}}
        text, total = gcov.table(found)
        self.assertEqual(total, gcov.Sum(3, 2, 4, 2, 2, 1))
        self.assertRegex(text, r'a\.c +2/2 +100\.0 +2/4 +50\.0 +1/2 +50\.0')
        self.assertNotIn('c.h', text)

    def test_what_is_not_covered_needs_a_reason(self):
        found = {'a.c': {1: line('return 1;', 0), 2: line('return 2;', 0), 3: line('return 3;', 1)}}
        why = {'a.c': {'f: return 1;': 'cannot happen', 'f: return 3;': 'cannot happen either'}}
        text, unexplained = gcov.compare(found, why)
        self.assertEqual(unexplained, 1)
        self.assertIn('a.c:2: NO REASON: f: return 2;', text)
        self.assertIn('a.c: f: return 3;: has a reason in harness/uncovered.toml, but is covered, or is no more', text)

    def test_reasons_are_of_files_of_the_series(self):
        self.assertLessEqual(set(gcov.reasons()), set(cover.new_files()))
        with tempfile.TemporaryDirectory() as place:
            path = pathlib.Path(place) / 'x.toml'
            path.write_text('[[uncovered]]\nfile = "a"\nwhy = "b"\nlines = ["c", "c"]\n')
            with self.assertRaisesRegex(util.Failure, 'stands twice'):
                gcov.reasons(path)

    def test_counters_of_a_vm(self):
        with tempfile.TemporaryDirectory() as place:
            out, old = pathlib.Path(place) / 'out', cover.BUILD
            cover.BUILD = pathlib.Path(place)
            try:
                channel = cover.BUILD / 'run/x/channel'
                channel.parent.mkdir(parents=True)
                channel.write_text(f'{"0" * 32} plan 1\n{"0" * 32} gcov {cover.BUILD}/k-gcov/virt/a.gcda 00ff\n')
                self.assertTrue(cover.counters(types.SimpleNamespace(label='x'), out))
                self.assertEqual((out / 'virt/a.gcda').read_bytes(), b'\x00\xff')
            finally:
                cover.BUILD = old


class Switches(unittest.TestCase):
    def test_gcov_counts_in_each_new_file_that_is_compiled(self):
        switches = kernel.gcov_switches(series.TREE)
        self.assertIn('GCOV_PROFILE_../../../virt/kvm/memslot_list.o=y', switches)
        self.assertIn('GCOV_PROFILE_mmu/memslot_list.o=y', switches)
        self.assertFalse([switch for switch in switches if 'testing' in switch])


if __name__ == '__main__':
    unittest.main()
