// As lookup.c, by Node's `dns.lookup` (getaddrinfo on a thread) or `dns.resolve4` (c-ares): HOW COUNT NAME=ADDRESS...
import { promises as dns } from "node:dns";

const [how, count, ...entries] = process.argv.slice(2);
const ask = {
  lookup: async (name) => (await dns.lookup(name, { all: true })).map(({ address }) => address),
  resolve4: (name) => dns.resolve4(name),
}[how];
const took = [];
const seen = new Set();
let failed = 0;
for (let number = 0; number < Number(count); number++) {
  const [name, list] = entries[number % entries.length].split("=");
  const expected = new Set(list.split(",").filter((address) => address));
  let found = [];
  let code = "";
  const began = process.hrtime.bigint();
  try {
    found = await ask(name);
  } catch (error) {
    code = error.code;
  }
  took.push(Number((process.hrtime.bigint() - began) / 1000n));
  const isListed = code === "" && found.length > 0 && found.every((address) => expected.has(address));
  if (expected.size ? isListed : code === "ENOTFOUND") {
    found.forEach((address) => seen.add(address));
  } else if (failed++ < 5) {
    console.error(`lookup ${number} of ${name}=${list}: ${found} ${code}`);
  }
}
took.sort((left, right) => left - right);
const late = took.filter((each) => each > 100_000).length;
const [median_us, max_us] = [took[took.length >> 1], took[took.length - 1]];
console.log(JSON.stringify({ lookups: took.length, failed, late, median_us, max_us, seen: [...seen] }));
