# SPDX-License-Identifier: GPL-2.0
"""Claims have names.  One that stands in a DOC block, *like-this*, stands in a test, and the other way round; what the
model claims stands in both; what is promised to userspace stands in the document, too.  Hazards have names as well:
each has a test that fails without its fix, or a reason why there is none, in harness/proofs.toml."""
import re
import tomllib

import model
import mutants
import registry
from util import HARNESS, REPO, Failure

NAME = re.compile(r'\*+([a-z]+(?:-[a-z]+)+)\*+')
# Of what no VMM can see, the document says nothing.
INTERNAL = {'no-deadlock', 'notifier-balance', 'use-after-free'}
HAZARDS = {f'C{i}' for i in range(1, 20)} | {f'F{i}' for i in range(1, 16)}


def read(*globs):
    return '\n'.join(path.read_text() for glob in globs for path in sorted(REPO.glob(glob)))


def shown(text):
    """Tests without what their comments say they do not show, each in a paragraph of its own."""
    return re.sub(r'^ \* (?:Not shown|Does not (?:prove|show))\b(?:.*\n)*?(?= \*(?:/|$))', '', text, flags=re.M)


def stands(name, text):
    return re.search(rf'(?<![\w-]){name}(?![\w-])', text)


def doc_blocks(text):
    return '\n'.join(re.findall(r'/\*\*\n \* DOC:.*?\*/', text, re.S))


def check():
    """No claim's name is an orphan."""
    source = doc_blocks(read('virt/kvm/memslot_*.c', 'arch/x86/kvm/mmu/memslot_*.c'))
    tests = shown(read('tools/testing/selftests/kvm/memory_region_list_*.c',
                       'tools/testing/selftests/kvm/x86_64/memory_region_list_*.c'))
    document = read('Documentation/virt/kvm/memory-region-list.rst')
    text = model.MODEL.read_text()
    asserted = set(re.findall(r'assert\(.*/\* ([\w-]+) \*/$', text, re.M))
    refuted = {claim for _, claim, *_ in model.BAD}
    if not asserted | {'no-deadlock'} == refuted == set(model.CLAIMS):
        raise Failure(f'the model asserts {", ".join(sorted(asserted))}, and bad protocols break '
                      f'{", ".join(sorted(refuted))}: these, and CLAIMS in model.py, have to be the same.')
    names = set(NAME.findall(source)) | set(NAME.findall(tests)) | set(NAME.findall(document)) | set(model.CLAIMS)
    orphans = [f'{name} is missing in {where}' for name in sorted(names) for where, there in (
        ('the DOC blocks', name in NAME.findall(source)),
        ('the tests', stands(name, tests)),
        ('the document', name in INTERNAL or stands(name, document)),
    ) if not there]
    if orphans:
        raise Failure('; '.join(orphans) + '.')
    wrong = unproven(tomllib.loads((HARNESS / 'proofs.toml').read_text()), registry.load(),
                     [mutants.parse(path) for path in sorted(mutants.PLACE.glob('*.patch'))])
    if wrong:
        raise Failure('harness/proofs.toml: ' + '; '.join(wrong) + '.')


def unproven(proofs, reg, attacks):
    """What is wrong: hazards without a test or a reason, tests that are none or that nothing shows to fail, mutants
    that others notice."""
    known = {test.name for test in reg.tests}
    fail_on_base = {test.name for test in reg.tests if test.base == 'fail'}
    shown_to_fail = {(name, test) for mutant in attacks for name in re.findall(r'\b[CF]\d+\b', mutant.hazard)
                     for test, _ in mutant.who_has_to(reg)}
    wrong = [f'{name} is missing or no hazard' for name in sorted(set(proofs) ^ HAZARDS)]
    for name, proof in proofs.items():
        if set(proof) - {'what', 'tests', 'none'} or not proof.get('what'):
            wrong.append(f'{name} has what, tests and none')
        if not proof.get('tests') and not proof.get('none'):
            wrong.append(f'{name} has neither tests nor a reason')
        wrong += [f'{name}: the registry has no {test}' for test in proof.get('tests', []) if test not in known]
        wrong += [f'{name}: {test} has no mutant of it, and does not fail on the base' for test in proof.get('tests', [])
                  if test in known - fail_on_base and (name, test) not in shown_to_fail]
    for mutant in attacks:
        for name in set(re.findall(r'\b[CF]\d+\b', mutant.hazard)):
            others = set(mutant.test.split()) - set(proofs.get(name, {}).get('tests', []))
            wrong += [f'{name}: {test} notices the mutant {mutant.name}' for test in sorted(others)]
    return wrong
