/** The part of a key that is hashed, if the key says so. */
export function hashTagOf(key: string): string | undefined {
  const open = key.indexOf("{");
  const close = open === -1 ? -1 : key.indexOf("}", open);
  return close > open + 1 ? key.slice(open + 1, close) : undefined;
}

const CRC_OF_BYTE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  return crc;
});

const SLOTS = 16384;

/** Redis Cluster's hash slot: CRC16-CCITT (XMODEM) of the hash tag, or of the whole key, modulo 16384. */
export function slotOf(key: string): number {
  return crcOf(hashTagOf(key) ?? key) % SLOTS;
}

function crcOf(text: string, from = 0): number {
  let crc = from;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127) return Buffer.from(text).reduce(next, from);
    crc = next(crc, code);
  }
  return crc;
}

function next(crc: number, byte: number): number {
  return ((crc << 8) ^ CRC_OF_BYTE[(crc >> 8) ^ byte]!) & 0xffff;
}

// Of no two bytes is the low half of their CRC the same. So each step can be taken back.
const BYTE_OF_LOW_HALF = Uint8Array.from({ length: 256 });
for (const [byte, crc] of CRC_OF_BYTE.entries()) BYTE_OF_LOW_HALF[crc & 0xff] = byte;

/** The CRC from which this text leads to that one. */
function crcBefore(text: string, crc: number): number {
  return Buffer.from(text).reduceRight((after, byte) => {
    const index = BYTE_OF_LOW_HALF[after & 0xff]!;
    return ((index ^ byte) << 8) | ((after ^ CRC_OF_BYTE[index]!) >> 8);
  }, crc);
}

/** What is known of the numbers behind one text: the CRC of both -> the first number that has it. */
interface Numbers {
  readonly first: Map<number, number>;
  tried: number;
}

// By the CRC of the text. A process has a prefix or two.
const numbersBehind = new Map<number, Numbers>();
const MOST_TEXTS = 4;

/**
 * The first number for which this slot is that of `before`, the number and `after`, all of it hashed: the same in every process,
 * whatever each has asked for before. It takes some tens of milliseconds for all slots together, a few for one: no number is tried
 * twice, for it is the CRC of `before` and the number that leads, through `after`, to the slot.
 */
export function numberIn(slot: number, before: string, after: string): number {
  const from = crcOf(before);
  if (numbersBehind.size >= MOST_TEXTS && !numbersBehind.has(from)) numbersBehind.clear();
  let numbers = numbersBehind.get(from);
  if (numbers === undefined) numbersBehind.set(from, (numbers = { first: new Map(), tried: 0 }));
  const wanted: number[] = [];
  for (let crc = slot; crc <= 0xffff; crc += SLOTS) wanted.push(crcBefore(after, crc));
  const known = wanted.flatMap((crc) => numbers.first.get(crc) ?? []);
  if (known.length > 0) return Math.min(...known);
  for (;;) {
    const number = numbers.tried++;
    const crc = crcOf(String(number), from);
    if (!numbers.first.has(crc)) numbers.first.set(crc, number);
    if (wanted.includes(crc)) return number;
  }
}
