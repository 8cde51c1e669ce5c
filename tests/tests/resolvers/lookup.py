"""As lookup.c, by Python's socket.getaddrinfo."""

import json
import socket
import sys
import time

count, entries = int(sys.argv[1]), [entry.split("=") for entry in sys.argv[2:]]
took, failed, seen = [], 0, set()
for number in range(count):
    name, expected = entries[number % len(entries)]
    began = time.monotonic()
    try:
        found, code = {place[0] for *_, place in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}, 0
    except socket.gaierror as error:
        found, code = set(), error.errno
    took.append(int((time.monotonic() - began) * 1e6))
    is_expected = code == 0 and found and found <= set(expected.split(",")) if expected else code == socket.EAI_NONAME
    if is_expected:
        seen |= found
    else:
        failed += 1
        if failed <= 5:
            print(f"lookup {number} of {name}={expected}: {found}, error {code}", file=sys.stderr)
took.sort()
late = sum(each > 100_000 for each in took)
median, most = took[count // 2], took[-1]
print(json.dumps({"lookups": count, "failed": failed, "late": late, "median_us": median, "max_us": most, "seen": sorted(seen)}))
