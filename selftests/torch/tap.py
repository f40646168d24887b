# SPDX-License-Identifier: Apache-2.0
"""TAP for the PyTorch tests: functions are tests, in the order they are written."""
import sys
import traceback


class Skip(Exception):
    pass


_tests = []


def test(what):
    def take(f):
        _tests.append((what, f))
        return f
    return take


def run():
    wanted = sys.argv[1:]
    tests = [(w, f) for w, f in _tests if not wanted or any(x in w for x in wanted)]
    failed = 0
    print("TAP version 13")
    print(f"1..{len(tests)}", flush=True)
    for n, (what, f) in enumerate(tests, 1):
        try:
            note = f()
            print(f"ok {n} - {what}")
            if note:
                for line in str(note).splitlines():
                    print(f"# {line}")
        except Skip as e:
            print(f"ok {n} - {what} # SKIP {e}")
        except Exception as e:
            failed += 1
            print(f"not ok {n} - {what}")
            for line in f"{type(e).__name__}: {e}".splitlines()[:12]:
                print(f"# {line}")
            where = traceback.extract_tb(e.__traceback__)[-1]
            print(f"# at {where.filename}:{where.lineno}")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
