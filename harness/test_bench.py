# SPDX-License-Identifier: GPL-2.0
"""Tests of what `make bench` makes of what the VMs printed."""
import json
import math
import types
import unittest

import bars
import bench
import judge
import paths
import table


def row(contender, against='', **more):
    return {'kind': 'change', 'on': 'npt', 'contender': contender, 'in_turn_with': against, 'workload': 'split', 'entries': 2,
            'vcpus': 2, 'touch': 'kept', 'quirk': 1, 'pages': '4k', 'other': 0, 'parked_n': 2, 'parked_grace_periods': 2,
            'parked_faults': 0, 'ns_med': 100} | more


def pair(contender, other, mine, **more):
    return [row(contender, 'list', **(other | more)), row('list', contender, **(mine | more))]


class Bench(unittest.TestCase):
    def test_a_line_that_is_cut_off_fails_its_test_alone(self):
        job = types.SimpleNamespace(bed={'name': 'npt'})
        verdicts = [judge.Verdict('a', 'PASS', output='{"x": 1}\n{"x": '), judge.Verdict('b', 'PASS', output='{"x": 2}')]
        self.assertEqual([r['x'] for r in bench.rows_of(job, verdicts)], [1, 2])
        self.assertEqual([verdict.word for verdict in verdicts], ['FAIL', 'PASS'])

    def test_the_grid_has_all_arguments(self):
        calls = bench.grid((bench.HARNESS / 'bench.toml').read_text())
        self.assertIn(('npt', 16), calls)
        self.assertTrue(all('-c' in args and '-v' in args for job in calls.values() for args in job))

    def test_ratios_are_of_those_in_turn(self):
        rows = pair('ioctls', {'ns_med': 600}, {'ns_med': 100}) + pair('stopped', {'ns_med': 800}, {'ns_med': 200})
        self.assertEqual(list(bars.Rows(rows, 'npt').ratios('ioctls', 'ns_med', workload='split')), [6])
        self.assertEqual(list(bars.Rows(rows[:1], 'npt').ratios('ioctls', 'ns_med', workload='split')), [])

    def test_a_list_that_loses_nothing_is_better_by_any_number(self):
        rows = pair('stopped', {'lost_ns_med': 5}, {'lost_ns_med': 0})
        self.assertEqual(list(bars.Rows(rows, 'npt').ratios('stopped', 'lost_ns_med', workload='split')), [math.inf])
        self.assertEqual(bars.cell(None, bars.at_least(20), lambda _: math.inf), 'inf')
        rows = pair('stopped', {'lost_ns_med': 0}, {'lost_ns_med': 0})
        self.assertEqual(list(bars.Rows(rows, 'npt').ratios('stopped', 'lost_ns_med', workload='split')), [])

    def test_a_gap_is_compared_with_that_of_a_kick(self):
        rows = sum((pair('kick', {'longest_ns_med': kick}, {'longest_ns_med': 3}, workload=name)
                    for name, kick in (('split', 3), ('merge', 2))), [])
        self.assertEqual(bars.gap(2)(bars.Rows(rows, 'npt')), 1.5)
        rows += pair('kick', {'longest_ns_med': 0}, {'longest_ns_med': 3}, vcpus=4)
        rows += pair('kick', {'longest_ns_med': 1}, {'longest_ns_med': 1}, vcpus=4, workload='merge')
        self.assertEqual(bars.gap(4)(bars.Rows(rows, 'npt')), math.inf)

    def test_counts_are_of_all_lists(self):
        rows = [row('list', 'none', pages='2m', quirk=0, parked_grace_periods=4)]
        self.assertEqual(bars.grace_periods(bars.Rows(rows, 'npt')), 2)
        rows = [row('list', 'none', pages='2m', workload=name, parked_faults=n) for name, n in (('split', 0), ('merge', 2))]
        self.assertEqual(bars.both(max, bars.faults)(bars.Rows(rows, 'npt')), 1)
        self.assertIsNone(bars.both(max, bars.faults)(bars.Rows(rows[:1], 'npt')))

    def test_growth_is_the_worse_of_both(self):
        rows = sum((pair('stopped', {}, {'ns_med': ns}, workload=name, entries=n)
                    for name, n, ns in (('split', 1024, 1024), ('merge', 1024, 1024), ('split', 32762, 32762),
                                        ('merge', 32762, 65524))), [])
        self.assertEqual(bars.both(max, bars.growth)(bars.Rows(rows, 'npt')), 2)

    def test_a_cell_shows_why_it_missed(self):
        self.assertEqual(bars.cell(None, bars.at_least(300), lambda _: 299.96), '299.96 **missed**')
        self.assertEqual(bars.cell(None, bars.at_most(1.5), lambda _: 1.5), '1.5')
        self.assertEqual(bars.cell(None, bars.at_most(4_000_000), lambda _: 4123456.0), '4,123,456 **missed**')
        self.assertEqual(bars.cell(None, bars.at_least(1), lambda _: None), '**not measured**')

    def test_a_contender_without_its_list_is_left_out(self):
        rows = pair('ioctls', {}, {}) + [row('pause', 'list')]
        self.assertEqual([other['contender'] for other, _ in table.pairs(rows)], ['ioctls'])
        self.assertEqual(table.missed('| 1 **missed** | **not measured** |'), '1 bars missed, 1 not measured.')

    def test_old_paths_have_samples_of_all_boots(self):
        def done(where, seed, ns):
            line = json.dumps({'kind': 'path', 'path': 'move', 'ns': ns})
            return types.SimpleNamespace(label=f'bench/{where}/npt/seed-{seed}/vm'), [judge.Verdict('p', 'PASS', output=line)]
        runs = [done('base', 1, [100, 100]), done('base', 2, [102]), done('series', 1, [101]), done('series', 2, [101])]
        self.assertEqual(paths.rows(runs), {('move', 'npt'): {'base': [100, 100, 102], 'series': [101, 101]}})
        cut = types.SimpleNamespace(label='bench/base/npt/seed-3/vm'), [judge.Verdict('p', 'PASS', output='{"kind": "path"')]
        self.assertEqual(paths.rows([cut]), {})
        self.assertEqual(cut[1][0].word, 'FAIL')
        self.assertIn('**missed**', paths.cell('move', {'base': [100], 'series': [101]}))
        self.assertIn('**missed**', paths.cell('dirty_log_perf_test: x', {'base': [100], 'series': [101]}))
        self.assertNotIn('**missed**', paths.cell('memslot_perf_test, x: iteration', {'base': [100], 'series': [101]}))
        self.assertEqual(paths.cell('move', {'base': [100]}), '**not measured**')


if __name__ == '__main__':
    unittest.main()
