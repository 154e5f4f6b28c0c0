/** MessagePack against the format's own examples and corners, and there and back for random documents. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { MalformedError, decode, encode } from "../src/msgpack.js";
import { randomFrom } from "./support.js";

const bytes = (hex) => Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const hex = (data) => Buffer.from(data).toString("hex");

const SAME = [
  [null, "c0"],
  [false, "c2"],
  [true, "c3"],
  [0, "00"],
  [127, "7f"],
  [128, "cc80"],
  [255, "ccff"],
  [256, "cd0100"],
  [65535, "cdffff"],
  [65536, "ce00010000"],
  [2 ** 32 - 1, "ceffffffff"],
  [2 ** 32, "cf0000000100000000"],
  [2 ** 53 - 1, "cf001fffffffffffff"],
  [2n ** 53n, "cf0020000000000000"],
  [2n ** 64n - 1n, "cfffffffffffffffff"],
  [-1, "ff"],
  [-32, "e0"],
  [-33, "d0df"],
  [-128, "d080"],
  [-129, "d1ff7f"],
  [-32768, "d18000"],
  [-32769, "d2ffff7fff"],
  [-(2 ** 31), "d280000000"],
  [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
  [-(2n ** 63n), "d38000000000000000"],
  [-0, "cb8000000000000000"],
  [0.5, "cb3fe0000000000000"],
  [2 ** 53, "cb4340000000000000"],
  [5e-324, "cb0000000000000001"],
  [Infinity, "cb7ff0000000000000"],
  [NaN, "cb7ff8000000000000"],
  ["", "a0"],
  ["a", "a161"],
  ["é€😀", "a9c3a9e282acf09f9880"],
  ["\ufeffx", "a4efbbbf78"],
  ["a".repeat(31), `bf${"61".repeat(31)}`],
  ["a".repeat(32), `d920${"61".repeat(32)}`],
  ["a".repeat(256), `da0100${"61".repeat(256)}`],
  ["a".repeat(65536), `db00010000${"61".repeat(65536)}`],
  [[], "90"],
  [Array(15).fill(1), `9f${"01".repeat(15)}`],
  [Array(16).fill(1), `dc0010${"01".repeat(16)}`],
  [Array(65536).fill(1), `dd00010000${"01".repeat(65536)}`],
  [{}, "80"],
  [{ x: 1, y: [null, true, 0.5] }, "82a17801a17993c0c3cb3fe0000000000000"],
  [JSON.parse('{"__proto__": 1}'), "81a95f5f70726f746f5f5f01"],
  [new Uint8Array(0), "c400"],
  [Uint8Array.of(1, 2), "c4020102"],
  [new Uint8Array(256), `c50100${"00".repeat(256)}`],
  [new Uint8Array(65536), `c600010000${"00".repeat(65536)}`],
];

for (const [document, written] of SAME) {
  test(`there and back: ${written.slice(0, 24)}`, () => {
    // An assertion on the texts would print them whole.
    assert.ok(hex(encode(document)) === written, hex(encode(document)).slice(0, 100));
    assert.deepEqual(decode(bytes(written)), document);
  });
}

const MAPS = [
  [16, "de0010"],
  [65536, "df00010000"],
];
for (const [size, head] of MAPS) {
  test(`a map of ${size} fields`, () => {
    const map = Object.fromEntries(Array.from({ length: size }, (_, n) => [`k${n}`, n]));
    assert.ok(hex(encode(map)).startsWith(head));
    assert.deepEqual(decode(encode(map)), map);
  });
}

/** What others may write differently. */
const READ = [
  ["ca3fc00000", 1.5],
  ["cc05", 5],
  ["cf0000000000000005", 5],
  ["d3fffffffffffffffb", -5],
  ["d90161", "a"],
  ["db0000000161", "a"],
  ["dd0000000107", [7]],
  ["df00000001a16107", { a: 7 }],
];

for (const [written, document] of READ) {
  test(`read: ${written}`, () => assert.deepEqual(decode(bytes(written)), document));
}

const REFUSED = [
  ["", /byte 0: an item of 1 bytes was announced, 0 follow/],
  ["0101", /byte 1: the document ends here, 1 more bytes follow/],
  ["c1", /byte 0: 0xc1, which begins nothing/],
  ["d40100", /byte 0: an extension type \(tag 0xd4\)/],
  ["c7010000", /an extension type/],
  ["81 01 02", /byte 1: a key that is no text/],
  ["a2 ff ff", /a text that is not UTF-8/],
  ["cb 00", /byte 1: a number of 8 bytes was announced, 1 follow/],
  ["dd ff ff ff ff 01", /byte 6: an item/],
  ["c6 ff ff ff ff 01", /data of 4294967295 bytes was announced, 1 follow/],
  ["91".repeat(600) + "c0", /nested deeper than 500/],
];

for (const [written, message] of REFUSED) {
  test(`refused: ${written.slice(0, 24)}`, () => {
    assert.throws(
      () => decode(bytes(written)),
      (error) => error instanceof MalformedError && message.test(error.message),
    );
  });
}

test("what has no counterpart is not written", () => {
  assert.throws(() => encode(2n ** 64n), /more than the 64 bits/);
  assert.throws(() => encode(-(2n ** 63n) - 1n), /more than the 64 bits/);
  assert.throws(() => encode([undefined]), /undefined cannot be written/);
  assert.deepEqual(decode(encode({ a: undefined, b: 1 })), { b: 1 });
});

test("random documents come back, and cut or changed ones only ever fail as malformed", () => {
  const random = randomFrom(1);
  const below = (limit) => Math.floor(random() * limit);
  const makers = [
    () => null,
    () => random() < 0.5,
    () => below(2 ** 32) - 2 ** 31,
    () => (random() - 0.5) * 10 ** (below(600) - 300),
    () => BigInt(below(2 ** 31)) * 2n ** 32n + 2n ** 53n,
    () => String.fromCodePoint(...Array.from({ length: below(40) }, () => 0x20 + below(0xd000))),
    () => Uint8Array.from({ length: below(300) }, () => below(256)),
    (depth) => Array.from({ length: below(depth ? 20 : 1) }, () => make(depth - 1)),
    (depth) => Object.fromEntries(Array.from({ length: below(depth ? 20 : 1) }, (_, n) => [`k${n}`, make(depth - 1)])),
  ];
  const make = (depth) => makers[below(depth > 0 ? makers.length : makers.length - 2)](depth);
  for (let n = 0; n < 300; n++) {
    const document = make(3);
    const written = encode(document);
    assert.deepEqual(decode(written), document);
    const damaged = written.slice(0, random() < 0.5 ? below(written.length) : undefined);
    if (damaged.length) damaged[below(damaged.length)] = below(256);
    try {
      decode(damaged);
    } catch (error) {
      assert.ok(error instanceof MalformedError, String(error));
    }
  }
});
