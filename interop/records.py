"""Compares access records with the expectations of the checks: records.py EXPECTED RECORDS...

EXPECTED has a JSON object a line: the `target` of one tunnel; `equals`, values of fields;
`between`, fields and their bounds; `has`, fields that are there. Prints one line a group of
targets, `ok NAME` or `FAIL NAME: why`.
"""

import collections
import json
import sys


def faults(wanted, record):
    for field, value in wanted.get("equals", {}).items():
        if record.get(field) != value:
            yield f"{field} is {record.get(field)}, not {value}"
    for field, (least, most) in wanted.get("between", {}).items():
        if not least <= record.get(field, -1) <= most:
            yield f"{field} is {record.get(field)}, not within {least} to {most}"
    for field in wanted.get("has", []):
        if field not in record:
            yield f"{field} is missing"


records = collections.defaultdict(list)
for path in sys.argv[2:]:
    for line in open(path):
        record = json.loads(line)
        if record["event"] == "ended":
            records[record["target"]].append(record)

groups = collections.defaultdict(list)
for line in open(sys.argv[1]):
    wanted = json.loads(line)
    found = records[wanted["target"]]
    why = [f"{len(found)} records"] if len(found) != 1 else list(faults(wanted, found[0]))
    path = wanted["target"].split("?")[0]
    groups[path].append((wanted["target"], why))

failed = 0
for path, cases in sorted(groups.items()):
    wrong = [(target, why) for target, why in cases if why]
    failed += len(wrong)
    if not wrong:
        print(f"ok records: {path}, {len(cases)} tunnels as they should be recorded")
    for target, why in wrong:
        print(f"FAIL records: {target}: {'; '.join(why)}")
sys.exit(1 if failed else 0)
